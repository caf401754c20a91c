package perf

import (
	"slices"
	"strings"
)

// Text writes one value with its unit.
func (u Unit) Text(v float64) string {
	text, name := u.scaled(v)
	return text(v) + name
}

// Cell writes a median with its quartiles, as reports do.
func (u Unit) Cell(s Samples) string { return u.cell(s, true) }

// Standing says how a subject stands against another, with the 95 % interval, as
// reports do; "" if that cannot be said.
func (u Unit) Standing(subject, other Samples) string { return u.ratio(subject, other, true) }

// Said is a target with what came of it in the report, in words.
func (t Target) Said(r *Report) string { return t.said(r) }

// Met says whether the target was met in the report, and whether it was measured.
func (t Target) Met(r *Report) (met, measured bool) {
	is, measured := t.reached(r)
	return measured && is.Value <= t.AtMost, measured
}

// Rivals are the columns that the subject is compared with: those that the report
// names and has, none if the subject took no part.
func (r *Report) Rivals() []string { return slices.Clone(r.against()) }

// Whole is the name of the row that row is a part of, or "": from Of, or in reports
// that are older than it from the name.
func (r *Report) Whole(row *Row) string {
	if row.Of != "" {
		return row.Of
	}
	best := ""
	for _, other := range r.Rows {
		if n := len(other.Name); n > len(best) && len(row.Name) > n+1 && row.Name[:n+2] == other.Name+": " {
			best = other.Name
		}
	}
	return best
}

// Markdown writes a table, its header first, all lines of one length: figures stand
// right.
func Markdown(lines [][]string) string {
	var b strings.Builder
	writeTable(&b, lines)
	return b.String()
}
