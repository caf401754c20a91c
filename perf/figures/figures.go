package figures

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"blockstore.dev/blockstore/perf"
)

//go:embed *.json
var committed embed.FS

// The marks around the block.
const (
	begin = "<!-- figures: `make figures` writes this from perf/figures -->\n"
	end   = "<!-- end of figures -->\n"
)

// ErrNoBlock: a document has not both marks, once each.
var ErrNoBlock = errors.New("the marks of the figures' block are not there, or not once")

// Insert returns a document with the block made anew.
func Insert(document string) (string, error) {
	before, rest, ok := strings.Cut(document, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed || strings.Contains(after, begin) || strings.Contains(after, end) {
		return "", ErrNoBlock
	}
	block, err := Block(committed)
	return before + begin + block + end + after, err
}

// Block is what the reports in a directory give: charts and a table of each with what is
// to be known about it.
func Block(dir fs.FS) (string, error) {
	names, err := reportNames(dir)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i, name := range names {
		r, err := read(dir, name)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		if err := section(&b, name, r, i > 0); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	return b.String(), nil
}

func read(dir fs.FS, name string) (*perf.Report, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	r, err := perf.Read(f)
	return r, errors.Join(err, f.Close())
}

// byKind has the matrix first and what there is of it with ZFS, then Docker and containerd, then others.
func byKind(a, b string) int {
	kinds := []string{"containerd", "docker", "zfs", "matrix"}
	rank := func(name string) int {
		kind, _, _ := strings.Cut(name, "-")
		return -slices.Index(kinds, kind)
	}
	return cmp.Compare(rank(a), rank(b))
}

// section has a report's facts, charts and table. Charts are folded where others stand open already.
func section(b *strings.Builder, name string, r *perf.Report, folded bool) error {
	rows := chosen(r)
	if len(rows) == 0 {
		return errors.New("it has none of the rows that are shown")
	}
	fmt.Fprintf(b, "\n### %s\n\n", r.Heading())
	fmt.Fprintf(b, "- [all samples](%s), of `%s`, begun %s\n", path.Join("perf/figures", name), strings.Join(r.Command, " "), r.Begun.UTC().Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(b, "- %s\n", r.Machine)
	fmt.Fprintf(b, "- %s\n", facts(r.Environment, ": "))
	fmt.Fprintf(b, "- %s\n\n", facts(r.Versions, " "))
	show(b, pictures(name, r), folded)
	b.WriteString(perf.Markdown(table(r, rows)))
	b.WriteString("\n")
	return nil
}

// facts are one line.
func facts(of map[string]string, between string) string {
	if len(of) == 0 {
		return "nothing else is known of it"
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		all = append(all, name+between+of[name])
	}
	return strings.Join(all, "; ")
}

// table has medians, and how the subject stands against its rivals.
func table(r *perf.Report, rows []*perf.Row) [][]string {
	head := []string{"medians"}
	var shown []string
	for _, c := range r.Columns {
		if slices.Contains(columns(), c.Name) {
			head, shown = append(head, c.Name), append(shown, c.Name)
		}
	}
	rivals := slices.DeleteFunc(r.Rivals(), func(name string) bool { return !slices.Contains(shown, name) })
	for _, name := range rivals {
		head = append(head, r.Subject+" against "+name)
	}
	lines := [][]string{head}
	for _, row := range rows {
		line := []string{row.Name}
		for _, name := range shown {
			text := ""
			if s := row.Samples[name]; len(s) > 0 {
				text = row.Unit.Text(s.Median())
			}
			line = append(line, text)
		}
		for _, name := range rivals {
			line = append(line, row.Unit.Standing(row.Samples[r.Subject], row.Samples[name]))
		}
		lines = append(lines, line)
	}
	return lines
}
