package page

import (
	"bytes"
	"cmp"
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"blockstore.dev/blockstore/perf"
)

//go:embed page.html
var text string

// Write writes the page of reports to w.
func Write(w io.Writer, reports ...*perf.Report) error {
	t, err := template.New("page").Parse(text)
	if err != nil {
		return fmt.Errorf("the page's template: %w", err)
	}
	parts := make([]part, 0, len(reports))
	for i, r := range reports {
		p, err := newPart(r, i)
		if err != nil {
			return err
		}
		parts = append(parts, p)
	}
	return t.Execute(w, parts)
}

// part is what the template shows of a report.
type part struct {
	ID, Title, Subject  string
	Facts               []fact
	Columns             []perf.Column
	Notes               []string
	Targets             []outcome
	Wins, Losses, Draws []standing
	NotRun              []perf.NotRun
	Head                []string
	Groups              []shownGroup
}

type fact struct{ Name, Value string }

// outcome is a target's: its class is met, missed or unknown.
type outcome struct{ Class, Text string }

// standing is how the subject stands against a rival in a row.
type standing struct {
	Row, Rival, Text string
	by               float64
}

type shownGroup struct {
	ID, Title string
	Charts    []template.HTML
	Lines     []line
}

// line is one of a table's. The class of a cell says who is ahead: win or loss.
type line struct {
	Name  string
	Part  bool
	Cells []cell
}

type cell struct{ Class, Text, Beside string }

// newCell puts what stands in brackets on a line of its own.
func newCell(class, text string) cell {
	if at := strings.Index(text, " ("); at > 0 {
		return cell{class, text[:at], text[at+1:]}
	}
	return cell{Class: class, Text: text}
}

func newPart(r *perf.Report, n int) (part, error) {
	p := part{
		ID: fmt.Sprintf("run%d", n+1), Title: r.Heading(), Subject: r.Subject, Facts: facts(r), Columns: r.Columns,
		Notes: r.Notes, NotRun: r.NotRun,
	}
	for _, t := range r.Targets {
		p.Targets = append(p.Targets, outcomeOf(t, r))
	}
	p.standings(r)
	for _, c := range r.Columns {
		p.Head = append(p.Head, c.Name)
	}
	for _, rival := range r.Rivals() {
		p.Head = append(p.Head, r.Subject+" against "+rival)
	}
	for i, g := range groups(r) {
		shown, err := shownOf(r, g)
		if err != nil {
			return p, err
		}
		shown.ID = fmt.Sprintf("%s-%d", p.ID, i+1)
		p.Groups = append(p.Groups, shown)
	}
	return p, nil
}

func facts(r *perf.Report) []fact {
	all := []fact{
		{"begun", r.Begun.Format("2006-01-02 15:04 MST")}, {"command", strings.Join(r.Command, " ")}, {"machine", r.Machine.String()},
	}
	for _, name := range slices.Sorted(maps.Keys(r.Environment)) {
		all = append(all, fact{name, r.Environment[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		all = append(all, fact{name, r.Versions[name]})
	}
	return all
}

func outcomeOf(t perf.Target, r *perf.Report) outcome {
	class := "unknown"
	if met, measured := t.Met(r); measured {
		class = map[bool]string{true: "met", false: "missed"}[met]
	}
	return outcome{class, strings.TrimPrefix(t.Said(r), "target: ")}
}

// standings sorts what is compared into wins and losses, the greatest first, and what
// the samples do not decide. Parts and counts are in the tables.
func (p *part) standings(r *perf.Report) {
	for _, row := range r.Rows {
		if r.Whole(row) != "" || row.Unit == perf.Count {
			continue
		}
		for _, rival := range r.Rivals() {
			s, class := standingOf(r, row, rival)
			switch class {
			case "win":
				p.Wins = append(p.Wins, s)
			case "loss":
				p.Losses = append(p.Losses, s)
			case "draw":
				p.Draws = append(p.Draws, s)
			}
		}
	}
	for _, list := range [][]standing{p.Wins, p.Losses} {
		slices.SortStableFunc(list, func(a, b standing) int { return cmp.Compare(b.by, a.by) })
	}
}

// standingOf says how the subject stands in a row; the class is win, loss, draw, or
// "" if that cannot be said.
func standingOf(r *perf.Report, row *perf.Row, rival string) (standing, string) {
	mine, theirs := row.Samples[r.Subject], row.Samples[rival]
	ratio, ok := perf.RatioOf(mine, theirs)
	if !ok {
		return standing{}, ""
	}
	s := standing{row.Name, rival, row.Unit.Standing(mine, theirs), max(ratio.Value, 1/ratio.Value)}
	switch {
	case !ratio.Differs():
		return s, "draw"
	case (ratio.Value < 1) != row.Unit.MoreIsBetter():
		return s, "win"
	}
	return s, "loss"
}

func shownOf(r *perf.Report, g group) (shownGroup, error) {
	shown := shownGroup{Title: g.title}
	for _, c := range g.charts(r) {
		var b bytes.Buffer
		if err := c.Drawing.SVG(&b); err != nil {
			return shown, fmt.Errorf("chart %q: %w", c.Name, err)
		}
		shown.Charts = append(shown.Charts, template.HTML(b.String())) // what chart writes is markup, its texts escaped
	}
	for _, row := range g.rows {
		whole := outermost(r, row)
		l := line{Name: strings.TrimPrefix(row.Name, whole.Name+": "), Part: whole != row}
		for _, c := range r.Columns {
			l.Cells = append(l.Cells, newCell("", row.Unit.Cell(row.Samples[c.Name])))
		}
		for _, rival := range r.Rivals() {
			s, class := standingOf(r, row, rival)
			l.Cells = append(l.Cells, newCell(class, s.Text))
		}
		shown.Lines = append(shown.Lines, l)
	}
	return shown, nil
}
