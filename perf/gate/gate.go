package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"blockstore.dev/blockstore/perf"
)

// ErrNotBaseline: a file is not the JSON of a baseline, or not all of it.
var ErrNotBaseline = errors.New("not a baseline of counts")

// Limits of what is read, and from which spread on bytes are no count: the greatest
// sample is that many times the least.
const (
	maxBaseline = 8 << 20
	maxLimits   = 100_000
	stable      = 1.1
)

// Baseline is what a run may count.
type Baseline struct {
	// Of is the title of the report that it was made of, Kernel its machine's.
	Of     string  `json:"of"`
	Kernel string  `json:"kernel"`
	Limits []Limit `json:"limits"`
}

// Limit is the most that a row's median may be in a column.
type Limit struct {
	Row    string    `json:"row"`
	Column string    `json:"column"`
	Unit   perf.Unit `json:"unit"`
	AtMost float64   `json:"at_most"`
}

// New makes the baseline of runs of one benchmark: the least count of each, since what
// goes on in the background only adds to one; and bytes of a part with a tenth added,
// if their samples lie no farther apart.
func New(runs ...*perf.Report) Baseline {
	b := Baseline{Of: runs[0].Title, Kernel: runs[0].Machine.Kernel, Limits: []Limit{}}
	for _, cell := range cells(runs) {
		s, _ := cell.samples(runs)
		switch {
		case cell.Unit == perf.Count:
			cell.AtMost = s.Min()
		case cell.Unit == perf.Bytes && cell.part && s.Min() >= 0 && s.Quantile(1) <= stable*s.Min():
			cell.AtMost = math.Ceil(stable * s.Quantile(1))
		default:
			continue
		}
		b.Limits = append(b.Limits, cell.Limit)
	}
	return b
}

// Renew is New with what the baseline before it forbade: a row with a limit of 0 in which
// nobody does anything is left out of the runs, and stays forbidden.
func (b Baseline) Renew(runs ...*perf.Report) Baseline {
	renewed := New(runs...)
	for _, old := range b.Limits {
		same := func(l Limit) bool { return l.Row == old.Row && l.Column == old.Column && l.Unit == old.Unit }
		if old.AtMost == 0 && !slices.ContainsFunc(renewed.Limits, same) {
			renewed.Limits = append(renewed.Limits, old)
		}
	}
	return renewed
}

// cell is a limit to be.
type cell struct {
	Limit
	part bool
}

// cells are those of the subject that any run has, each once.
func cells(runs []*perf.Report) []cell {
	var all []cell
	seen := map[Limit]bool{}
	for _, r := range runs {
		for _, row := range r.Rows {
			for _, c := range r.Columns {
				limit := Limit{Row: row.Name, Column: c.Name, Unit: row.Unit}
				if len(row.Samples[c.Name]) > 0 && subjects(r, c.Name) && !seen[limit] {
					seen[limit] = true
					all = append(all, cell{limit, row.Of != ""})
				}
			}
		}
	}
	return all
}

// samples are those of all runs. A run without the row counted nothing in it, as a
// row in which nobody does anything is left out; in is how many runs have it.
func (l Limit) samples(runs []*perf.Report) (s perf.Samples, in int) {
	for _, r := range runs {
		i := slices.IndexFunc(r.Rows, func(row *perf.Row) bool { return row.Name == l.Row && row.Unit == l.Unit })
		if i >= 0 && len(r.Rows[i].Samples[l.Column]) > 0 {
			s, in = append(s, r.Rows[i].Samples[l.Column]...), in+1
			continue
		}
		s = append(s, 0)
	}
	return s, in
}

// subjects is true of the subject's column and of those of its kin.
func subjects(r *perf.Report, column string) bool {
	first, _, _ := strings.Cut(r.Subject, "/")
	return r.Subject != "" && (column == first || strings.HasPrefix(column, first+"/"))
}

// Finding is a limit that runs do not keep, or keep with room.
type Finding struct {
	Limit
	// Is what was counted, the least of the runs'; Missing is set if none did count,
	// Unknown if there is no limit yet: then it is 0.
	Is      float64 `json:"is"`
	Missing bool    `json:"missing"`
	Unknown bool    `json:"unknown"`
}

// Result is what runs count beside a baseline.
type Result struct {
	Checked int       `json:"checked"`
	Broken  []Finding `json:"broken"` // above their limits, not counted, or without a limit
	Less    []Finding `json:"less"`
}

// Check holds runs of one benchmark against the baseline, each count's least.
func (b Baseline) Check(runs ...*perf.Report) Result {
	result := Result{Checked: len(b.Limits), Broken: []Finding{}, Less: []Finding{}}
	for _, limit := range b.Limits {
		s, in := limit.samples(runs)
		is := s.Min()
		switch {
		case in == 0 && limit.AtMost > 0: // a row of zeros is left out of reports
			result.Broken = append(result.Broken, Finding{Limit: limit, Missing: true})
		case is > limit.AtMost:
			result.Broken = append(result.Broken, Finding{Limit: limit, Is: is})
		case limit.Unit == perf.Count && is < limit.AtMost, is*stable*stable < limit.AtMost:
			result.Less = append(result.Less, Finding{Limit: limit, Is: is})
		}
	}
	result.Broken = append(result.Broken, b.unknown(runs)...)
	return result
}

// unknown are counts in the baseline's columns that it has no limit of: somebody began
// to do what nobody did.
func (b Baseline) unknown(runs []*perf.Report) []Finding {
	var found []Finding
	for _, cell := range cells(runs) {
		limited := slices.ContainsFunc(b.Limits, func(l Limit) bool { return l.Row == cell.Row && l.Column == cell.Column })
		column := slices.ContainsFunc(b.Limits, func(l Limit) bool { return l.Column == cell.Column })
		s, _ := cell.samples(runs)
		if cell.Unit == perf.Count && column && !limited && s.Min() > 0 {
			found = append(found, Finding{Limit: cell.Limit, Is: s.Min(), Unknown: true})
		}
	}
	return found
}

// Write writes the baseline as JSON, a limit to a line, so that a change of one is
// one line of a diff.
func (b Baseline) Write(w io.Writer) error {
	head, err := json.Marshal(struct {
		Of     string `json:"of"`
		Kernel string `json:"kernel"`
	}{b.Of, b.Kernel})
	if err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(strings.TrimSuffix(string(head), "}") + `,"limits":[`)
	for i, limit := range b.Limits {
		line, err := json.Marshal(limit)
		if err != nil {
			return err
		}
		text.WriteString(map[bool]string{true: "\n", false: ",\n"}[i == 0] + string(line))
	}
	_, err = io.WriteString(w, text.String()+"\n]}\n")
	return err
}

// Read reads what Write wrote. The error is ErrNotBaseline, or the reader's.
func Read(r io.Reader) (Baseline, error) {
	var b Baseline
	text, err := io.ReadAll(io.LimitReader(r, maxBaseline+1))
	if err != nil {
		return b, err
	}
	if len(text) > maxBaseline {
		return b, fmt.Errorf("%w: it has more than %d MiB", ErrNotBaseline, maxBaseline>>20)
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return b, fmt.Errorf("%w: %w", ErrNotBaseline, err)
	}
	if len(b.Limits) == 0 || len(b.Limits) > maxLimits {
		return b, fmt.Errorf("%w: it has %d limits", ErrNotBaseline, len(b.Limits))
	}
	for _, limit := range b.Limits {
		if limit.Row == "" || limit.Column == "" || limit.Unit != perf.Count && limit.Unit != perf.Bytes {
			return b, fmt.Errorf("%w: a limit of %q in %q in %q", ErrNotBaseline, limit.Row, limit.Column, limit.Unit)
		}
	}
	return b, nil
}
