package perf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Report is one run. Its JSON form holds every sample.
type Report struct {
	Title   string    `json:"title"`
	Command []string  `json:"command"` // as it was started
	Begun   time.Time `json:"begun"`
	Machine Machine   `json:"machine"`
	// Versions of the programs that took part, by name.
	Versions map[string]string `json:"versions"`
	Columns  []Column          `json:"columns"`
	// Subject is the column that Against are compared with; a report without
	// such a column shows no ratios.
	Subject string   `json:"subject"`
	Against []string `json:"against"`
	Rows    []*Row   `json:"rows"`
	Notes   []string `json:"notes,omitempty"` // what a reader has to know
	// Quartiles show beside medians in place of the minimum.
	Quartiles bool     `json:"quartiles,omitempty"`
	Targets   []Target `json:"targets,omitempty"`
	// Intervals show beside ratios; a ratio whose interval contains 1 is no difference.
	Intervals bool `json:"intervals,omitempty"`
	// Environment are facts about the machine beside Machine's, by their names.
	Environment map[string]string `json:"environment,omitempty"`
	// Workloads are what the rows are of, in their order.
	Workloads []Workload `json:"workloads,omitempty"`
	// NotRun is what was to be measured and could not be.
	NotRun []NotRun `json:"not_run,omitempty"`
}

// Heading is the title. Programs of before November 29, 2026, put an emulated machine's report down as this machine's.
func (r *Report) Heading() string {
	return strings.Replace(r.Title, onThisKernel, r.Machine.Where(), 1)
}

// Workload is a part of a report: what was done, for people.
type Workload struct {
	Name  string `json:"name"`
	Title string `json:"title"`
}

// NotRun says why there are no samples of a workload in a column, or, with Column
// empty, in any.
type NotRun struct {
	Workload string `json:"workload"`
	Column   string `json:"column,omitempty"`
	Reason   string `json:"reason"`
}

// Column is one of the compared.
type Column struct {
	Name string `json:"name"`
	Note string `json:"note"` // on what it works and with which options
}

// Row is one measure. Samples are by column's name; a column without any did not
// take part.
type Row struct {
	Name    string             `json:"name"`
	Unit    Unit               `json:"unit"`
	Samples map[string]Samples `json:"samples"`
	// Workload is the name of the one that the row belongs to, if the report has any.
	Workload string `json:"workload,omitempty"`
	// Of is the row that this one is a part of.
	Of string `json:"of,omitempty"`
	// Series is what rows have in common that differ in Scale only: a file's size, the
	// number of layers. ScaleName is what Scale counts.
	Series    string  `json:"series,omitempty"`
	Scale     float64 `json:"scale,omitempty"`
	ScaleName string  `json:"scale_name,omitempty"`
}

// Add puts a sample into the row of that name, which it makes if there is none:
// rows stand in the order of their first samples. It returns the row.
func (r *Report) Add(row string, unit Unit, column string, value float64) *Row {
	i := slices.IndexFunc(r.Rows, func(have *Row) bool { return have.Name == row })
	if i < 0 {
		i = len(r.Rows)
		r.Rows = append(r.Rows, &Row{Name: row, Unit: unit, Samples: map[string]Samples{}})
	}
	r.Rows[i].Samples[column] = append(r.Rows[i].Samples[column], value)
	return r.Rows[i]
}

// AddPart is Add for a row that is a part of another and stands behind it.
func (r *Report) AddPart(of, part string, unit Unit, column string, value float64) {
	name := of + ": " + part
	have := func(row *Row) bool { return row.Name == name }
	if i := slices.IndexFunc(r.Rows, func(row *Row) bool { return row.Name == of }); i >= 0 && !slices.ContainsFunc(r.Rows, have) {
		whole := r.Rows[i]
		r.Rows = slices.Insert(r.Rows, i+1, &Row{Name: name, Unit: unit, Samples: map[string]Samples{}, Workload: whole.Workload, Of: of})
	}
	r.Add(name, unit, column, value)
}

// Has says whether there is a row of that name.
func (r *Report) Has(row string) bool {
	return slices.ContainsFunc(r.Rows, func(have *Row) bool { return have.Name == row })
}

// LeaveOut notes what was not run, once.
func (r *Report) LeaveOut(n NotRun) {
	if !slices.Contains(r.NotRun, n) {
		r.NotRun = append(r.NotRun, n)
	}
}

// Stopped notes that the run ended early. It returns the report, or nil if there is nothing in it, and the error.
func (r *Report) Stopped(err error) (*Report, error) {
	if len(r.Rows) == 0 {
		return nil, err
	}
	r.LeaveOut(NotRun{Workload: "the rest", Reason: err.Error()})
	return r, err
}

// DropEmptyParts takes out the parts in which nobody has anything but zeros: what
// nobody does is not worth a row.
func (r *Report) DropEmptyParts() {
	r.Rows = slices.DeleteFunc(r.Rows, func(row *Row) bool {
		for _, s := range row.Samples {
			if row.Of == "" || s.Min() != 0 || s.Quantile(1) != 0 {
				return false
			}
		}
		return row.Of != ""
	})
}

// Table writes the rows of one workload, as WriteText does.
func (r *Report) Table(w io.Writer, workload string) error {
	only := *r
	only.Rows = slices.DeleteFunc(slices.Clone(r.Rows), func(row *Row) bool { return row.Workload != workload })
	var b strings.Builder
	writeTable(&b, only.table())
	_, err := io.WriteString(w, b.String())
	return err
}

// samples are those of a row in a column.
func (r *Report) samples(row, column string) Samples {
	i := slices.IndexFunc(r.Rows, func(have *Row) bool { return have.Name == row })
	if i < 0 {
		return nil
	}
	return r.Rows[i].Samples[column]
}

// unit is a row's.
func (r *Report) unit(row string) Unit {
	i := slices.IndexFunc(r.Rows, func(have *Row) bool { return have.Name == row })
	if i < 0 {
		return Seconds
	}
	return r.Rows[i].Unit
}

// numbers are a list of them, each on a line of its own.
var numbers = regexp.MustCompile(`\[\n\s+-?[0-9][-+.0-9e,\n ]*\]`)

// WriteJSON writes the whole report. Samples stand on one line: what is committed is to
// be small, and a line of a change one cell.
func (r *Report) WriteJSON(w io.Writer) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	text = numbers.ReplaceAllFunc(text, func(list []byte) []byte {
		return bytes.Join(bytes.Fields(list), nil)
	})
	_, err = w.Write(append(text, '\n'))
	return err
}

// Deliver writes the report as a program's flags ask for it: for people or as JSON
// to w, and as JSON into a file too unless its name is "".
func (r *Report) Deliver(w io.Writer, asJSON bool, file string) error {
	if err := r.save(file); err != nil {
		return err
	}
	if asJSON {
		return r.WriteJSON(w)
	}
	return r.WriteText(w)
}

// Keep writes what has been measured so far, if anything, into the file that Deliver writes at the end: a machine may go before. It is there
// whole or not at all. What is no file, as a pipe, has the end alone.
func (r *Report) Keep(file string) error {
	if info, err := os.Stat(file); file == "" || err == nil && !info.Mode().IsRegular() {
		return nil
	}
	soFar := *r
	soFar.NotRun = slices.Clone(r.NotRun)
	kept, _ := soFar.Stopped(errors.New("the run has not come to its end"))
	if kept == nil {
		return nil
	}
	part := file + ".new"
	if err := kept.save(part); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, file)
}

func (r *Report) save(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(r.WriteJSON(f), f.Close())
}

// WriteText writes the report for people, with a Markdown table: it can be read
// as it is and pasted into a document.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", r.Heading())
	fmt.Fprintf(&b, "- command: `%s`, begun %s\n", strings.Join(r.Command, " "), r.Begun.Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(&b, "- machine: %s\n", r.Machine)
	var versions []string
	for name, version := range r.Versions {
		versions = append(versions, name+" "+version)
	}
	slices.Sort(versions)
	fmt.Fprintf(&b, "- versions: %s\n", strings.Join(versions, "; "))
	for _, name := range slices.Sorted(maps.Keys(r.Environment)) {
		fmt.Fprintf(&b, "- %s: %s\n", name, r.Environment[name])
	}
	for _, c := range r.Columns {
		fmt.Fprintf(&b, "- %s: %s\n", c.Name, c.Note)
	}
	if r.Quartiles {
		b.WriteString("- cells: the median, with the quartiles in brackets\n\n")
	} else {
		b.WriteString("- cells: the median, with the minimum in brackets\n\n")
	}
	writeTable(&b, r.table())
	for i, n := range r.NotRun {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "- not run: %s: %s\n", strings.TrimSpace(n.Workload+" "+n.Column), n.Reason)
	}
	if len(r.Targets) > 0 {
		b.WriteString("\n")
	}
	for _, t := range r.Targets {
		fmt.Fprintf(&b, "- %s\n", t.said(r))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// table is the header and a line per row, all of one length.
func (r *Report) table() [][]string {
	head := []string{"measure"}
	for _, c := range r.Columns {
		head = append(head, c.Name)
	}
	against := r.against()
	for _, name := range against {
		head = append(head, r.Subject+" against "+name)
	}
	lines := [][]string{head}
	for _, row := range r.Rows {
		line := []string{row.Name}
		for _, c := range r.Columns {
			line = append(line, row.Unit.cell(row.Samples[c.Name], r.Quartiles))
		}
		for _, name := range against {
			line = append(line, row.Unit.ratio(row.Samples[r.Subject], row.Samples[name], r.Intervals))
		}
		lines = append(lines, line)
	}
	return lines
}

// against leaves out who did not take part.
func (r *Report) against() []string {
	has := func(name string) bool {
		return slices.ContainsFunc(r.Columns, func(c Column) bool { return c.Name == name })
	}
	if !has(r.Subject) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.Against), func(name string) bool { return !has(name) })
}

// writeTable writes a Markdown table with padded cells: figures stand right.
func writeTable(b *strings.Builder, lines [][]string) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, line := range lines {
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("| " + cell + pad + " |")
				continue
			}
			b.WriteString(" " + pad + cell + " |")
		}
		b.WriteString("\n")
		if n > 0 {
			continue
		}
		for i, width := range widths {
			if i == 0 {
				b.WriteString("|" + strings.Repeat("-", width+2) + "|")
				continue
			}
			b.WriteString(strings.Repeat("-", width+1) + ":|")
		}
		b.WriteString("\n")
	}
}
