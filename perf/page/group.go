package page

import (
	"slices"
	"strings"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/chart"
)

// group is what stands under one heading.
type group struct {
	title string
	rows  []*perf.Row
}

// groups are a report's, in its order: those of its workloads, then what belongs to
// none.
func groups(r *perf.Report) []group {
	var all []group
	for _, w := range r.Workloads {
		g := group{title: strings.TrimPrefix(w.Title, w.Name+" ")}
		g.title = w.Name + ": " + g.title
		for _, row := range r.Rows {
			if row.Workload == w.Name {
				g.rows = append(g.rows, row)
			}
		}
		if len(g.rows) > 0 {
			all = append(all, g)
		}
	}
	known := func(name string) bool {
		return slices.ContainsFunc(r.Workloads, func(w perf.Workload) bool { return w.Name == name })
	}
	wholes := map[string]int{}
	for _, row := range r.Rows {
		if known(row.Workload) {
			continue
		}
		whole := top(r, row)
		at, ok := wholes[whole]
		if !ok {
			at = len(all)
			wholes[whole] = at
			all = append(all, group{title: whole})
		}
		all[at].rows = append(all[at].rows, row)
	}
	return all
}

// top is the name of the whole that a row is a part of, or what that has in common
// with others of its series.
func top(r *perf.Report, row *perf.Row) string {
	whole := outermost(r, row)
	if whole.Series != "" {
		return whole.Series
	}
	return whole.Name
}

// outermost is the row that is no part of another and of which row is one, or row.
func outermost(r *perf.Report, row *perf.Row) *perf.Row {
	for range len(r.Rows) { // a file may say that two rows are parts of each other
		whole := r.Whole(row)
		i := slices.IndexFunc(r.Rows, func(other *perf.Row) bool { return other.Name == whole })
		if whole == "" || i < 0 {
			break
		}
		row = r.Rows[i]
	}
	return row
}

// Chart is a chart of a report with its name.
type Chart struct {
	Name    string
	Drawing chart.Drawing
}

// Charts are all of a report's, in the page's order.
func Charts(r *perf.Report) []Chart {
	var all []Chart
	for _, g := range groups(r) {
		all = append(all, g.charts(r)...)
	}
	return all
}

// charts are a group's: a line for each series, bars for each row that is neither in
// one nor a part nor a count.
func (g group) charts(r *perf.Report) []Chart {
	var all []Chart
	drawn := map[string]bool{}
	for _, row := range g.rows {
		series := g.series(row)
		switch {
		case len(series) > 1:
			key := row.Series + "\x00" + string(row.Unit)
			if !drawn[key] && (row.Unit != perf.Count || !g.timed(row.Series)) {
				all = append(all, Chart{row.Series, lines(r, series).Draw()})
			}
			drawn[key] = true
		case row.Unit != perf.Count && r.Whole(row) == "":
			all = append(all, Chart{row.Name, bars(r, row).Draw()})
		}
	}
	return all
}

// series are the rows of a group that a line is drawn through.
func (g group) series(row *perf.Row) []*perf.Row {
	var rows []*perf.Row
	for _, other := range g.rows {
		if row.Series != "" && other.Series == row.Series && other.Unit == row.Unit {
			rows = append(rows, other)
		}
	}
	return rows
}

// timed says whether the series has anything but counts.
func (g group) timed(series string) bool {
	return slices.ContainsFunc(g.rows, func(row *perf.Row) bool { return row.Series == series && row.Unit != perf.Count })
}

func bars(r *perf.Report, row *perf.Row) chart.Bars {
	b := chart.Bars{Title: row.Name, Unit: row.Unit}
	for _, c := range r.Columns {
		b.Bars = append(b.Bars, chart.Bar{Name: c.Name, Samples: row.Samples[c.Name], Ours: isOurs(r, c.Name)})
	}
	return b
}

func lines(r *perf.Report, rows []*perf.Row) chart.Lines {
	l := chart.Lines{Title: rows[0].Series, Unit: rows[0].Unit, Scale: rows[0].ScaleName}
	for _, c := range r.Columns {
		line := chart.Line{Name: c.Name, Ours: isOurs(r, c.Name)}
		for _, row := range rows {
			if s := row.Samples[c.Name]; len(s) > 0 {
				line.Points = append(line.Points, chart.Point{Scale: row.Scale, Samples: s})
			}
		}
		l.Lines = append(l.Lines, line)
	}
	return l
}

// isOurs is true of the subject and of its kin: blockstore/zfs is blockstore/btrfs's.
func isOurs(r *perf.Report, column string) bool {
	family := func(name string) string {
		first, _, _ := strings.Cut(name, "/")
		return first
	}
	return r.Subject != "" && family(column) == family(r.Subject)
}
