package figures

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/chart"
	"blockstore.dev/blockstore/perf/page"
)

// picture is a chart of a report that is shown.
type picture struct {
	file    string // its name in the directory of charts
	alt     string
	drawing chart.Drawing
}

// kind is a chart that is shown of every report that has its rows: one row, or a series
// of them that differ in scale.
type kind struct {
	file string
	rows *regexp.Regexp
}

// kinds are chosen as rows are: by name, not by who is ahead in them.
func kinds() []kind {
	var all []kind
	for _, k := range [][2]string{
		{"first-write", `W1 first write into a file(, .*)?`},
		{"create", `W5 create(, \d+ layers)?`},
		{"space", `W10 space of a container after four bytes into a file of \d+ MiB`},
		{"fan-out", `W12 read the same file(, .*)?`}, // what block copy-on-write loses
		{"steady", `W14 4 KiB random writes, depth 1`},
		{"docker-first-write", `first write: four bytes, cold`},
		{"docker-create", `docker create, a container`},
		{"docker-rm", `docker rm of \d+ containers, one command`},
		{"unpack", `unpack( of \d+ layers?)?`},
		{"prepare", `prepare among others|prepare, \d+ present`},
		{"remove", `remove`},
	} {
		all = append(all, kind{k[0], regexp.MustCompile(`^(` + k[1] + `)$`)})
	}
	return all
}

// pictures are a report's.
func pictures(name string, r *perf.Report) []picture {
	var all []picture
	for _, k := range kinds() {
		only := k.narrow(r)
		charts := page.Charts(only)
		if len(charts) == 0 {
			continue
		}
		all = append(all, picture{
			file:    strings.TrimSuffix(name, path.Ext(name)) + "-" + k.file + ".png",
			alt:     alternative(only),
			drawing: charts[0].Drawing.Captioned(caption(name, only)...),
		})
	}
	return all
}

// narrow leaves the rows of the first series or row that is of the kind, and the columns
// that took part in it.
func (k kind) narrow(r *perf.Report) *perf.Report {
	only := *r
	only.Rows, only.Columns = nil, nil
	of := func(row *perf.Row) string { return cmp.Or(row.Series, row.Name) }
	for _, row := range r.Rows {
		if r.Whole(row) == "" && k.rows.MatchString(of(row)) && (len(only.Rows) == 0 || of(row) == of(only.Rows[0])) {
			only.Rows = append(only.Rows, row)
		}
	}
	for _, c := range r.Columns {
		if slices.ContainsFunc(only.Rows, func(row *perf.Row) bool { return len(row.Samples[c.Name]) > 0 }) {
			only.Columns = append(only.Columns, c)
		}
	}
	return &only
}

// caption says what is drawn and of which run, for who meets the picture elsewhere.
func caption(name string, r *perf.Report) []string {
	what := "bars: medians; thick strokes: quartiles; thin ones: least and greatest sample"
	if len(r.Rows) > 1 {
		what = "markers: medians; strokes through them: quartiles"
	}
	kernel, _, _ := strings.Cut(r.Machine.Kernel, " #")
	if where, ok := strings.CutPrefix(r.Machine.Where(), "in "); ok {
		kernel += ", " + where
	}
	run := []string{name, r.Begun.UTC().Format("2006-01-02"), kernel, fmt.Sprintf("%d CPUs", r.Machine.CPUs)}
	if version := strings.Fields(strings.TrimPrefix(r.Versions["blockstore"], "blockstore ")); len(version) > 0 {
		run = append(run, "blockstore "+version[0])
	}
	return []string{what, strings.Join(run, "; ")}
}

// alternative is the chart in words: the medians of each column, of a series those at the
// least and the greatest scale.
func alternative(r *perf.Report) string {
	rows := slices.SortedStableFunc(slices.Values(r.Rows), func(a, b *perf.Row) int { return cmp.Compare(a.Scale, b.Scale) })
	text := func(row *perf.Row, column string) string {
		if len(row.Samples[column]) == 0 {
			return "not run"
		}
		return row.Unit.Text(row.Samples[column].Median())
	}
	first, last := rows[0], rows[len(rows)-1]
	title, ends := first.Name, ""
	if first != last {
		title, ends = first.Series, fmt.Sprintf(" at %g and at %g %s", first.Scale, last.Scale, last.ScaleName)
	}
	var medians []string
	for _, c := range r.Columns {
		median := text(first, c.Name)
		if first != last {
			median += " and " + text(last, c.Name)
		}
		medians = append(medians, c.Name+" "+median)
	}
	return title + ", medians" + ends + ": " + strings.Join(medians, "; ")
}

// Pictures are the charts that the block refers to, by their names in the directory of
// charts.
func Pictures() (map[string]chart.Drawing, error) {
	all := map[string]chart.Drawing{}
	names, err := reportNames(committed)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		r, err := read(committed, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, p := range pictures(name, r) {
			all[p.file] = p.drawing
		}
	}
	return all, nil
}

// Shows says whether a PNG has the drawing's pixels, each of them. Its bytes may be
// others: compression is free to change.
func Shows(file []byte, d chart.Drawing) bool {
	decoded, err := png.Decode(bytes.NewReader(file))
	have, ok := decoded.(*image.Paletted)
	if err != nil || !ok {
		return false
	}
	want := d.Image()
	if have.Bounds() != want.Bounds() {
		return false
	}
	a, b := colors(have), colors(want)
	for i, at := range want.Pix {
		if a[have.Pix[i]] != b[at] {
			return false
		}
	}
	return true
}

// colors are an image's, by what its pixels hold.
func colors(of *image.Paletted) (all [256]color.RGBA) {
	for i, c := range of.Palette {
		all[i] = color.RGBAModel.Convert(c).(color.RGBA)
	}
	return all
}

// pictureWidth is half of the pixels or less: they are sharp on dense screens too.
const pictureWidth = 640

// show writes the pictures, each a paragraph, folded or not.
func show(b *strings.Builder, all []picture, folded bool) {
	if len(all) == 0 {
		return
	}
	if folded {
		b.WriteString("<details><summary>charts of this run</summary>\n\n")
	}
	for _, p := range all {
		fmt.Fprintf(b, "<img src=\"%s\" width=\"%d\" alt=\"%s\">\n\n", path.Join("perf/figures/charts", p.file), pictureWidth, html.EscapeString(p.alt))
	}
	if folded {
		b.WriteString("</details>\n\n")
	}
}

// reportNames are in the order in which they are shown.
func reportNames(dir fs.FS) ([]string, error) {
	names, err := fs.Glob(dir, "*.json")
	slices.SortStableFunc(names, byKind)
	return names, err
}
