package perf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
)

// ErrNotReport: a file is not the JSON of a report, or not all of it.
var ErrNotReport = errors.New("not a report of a benchmark")

// Limits of what is read from a file that anybody may have written.
const (
	maxReport = 64 << 20 // bytes
	maxRows   = 4096
	maxNames  = 256  // columns, workloads
	maxSample = 1e18 // seconds, bytes, calls: more is a mistake
)

// Read reads what WriteJSON wrote. What it returns can be shown: units are known,
// samples belong to columns, names are not empty. It needs no more memory than a few
// times its limit of 64 MiB. The error is ErrNotReport, or the reader's.
func Read(r io.Reader) (*Report, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxReport+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxReport {
		return nil, fmt.Errorf("%w: it has more than %d MiB", ErrNotReport, maxReport>>20)
	}
	var report Report
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReport, err)
	}
	if err := report.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReport, err)
	}
	return &report, nil
}

// check says what is wrong with a report that came from elsewhere.
func (r *Report) check() error {
	switch {
	case len(r.Rows) == 0 || len(r.Columns) == 0:
		return errors.New("it has no rows or no columns")
	case len(r.Rows) > maxRows, len(r.Columns) > maxNames, len(r.Workloads) > maxNames:
		return fmt.Errorf("it has more than %d rows, or more than %d columns or workloads", maxRows, maxNames)
	}
	columns := map[string]bool{}
	for _, c := range r.Columns {
		if c.Name == "" || columns[c.Name] {
			return fmt.Errorf("the column %q has no name or is there twice", c.Name)
		}
		columns[c.Name] = true
	}
	rows := map[string]bool{}
	for _, row := range r.Rows {
		if row == nil || row.Name == "" || rows[row.Name] {
			return errors.New("a row has no name or is there twice")
		}
		rows[row.Name] = true
		if err := row.check(columns); err != nil {
			return fmt.Errorf("row %q: %w", row.Name, err)
		}
	}
	return nil
}

func (r *Row) check(columns map[string]bool) error {
	switch r.Unit {
	case Seconds, Bytes, Count, Times, PerSecond, BytesPerSecond:
	default:
		return fmt.Errorf("the unit %q is unknown", r.Unit)
	}
	if !(math.Abs(r.Scale) <= maxSample) {
		return fmt.Errorf("the scale %g is out of range", r.Scale)
	}
	for column, samples := range r.Samples {
		if !columns[column] {
			return fmt.Errorf("it has samples of %q, which is no column", column)
		}
		for _, v := range samples {
			if !(math.Abs(v) <= maxSample) {
				return fmt.Errorf("the sample %g is out of range", v)
			}
		}
	}
	return nil
}
