package page

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/perf"
)

func example() *perf.Report {
	r := &perf.Report{
		Title: "Example", Command: []string{"bench", "<b>"}, Begun: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
		Machine: perf.Machine{Kernel: "Linux 1.0"}, Versions: map[string]string{"a": "1"}, Environment: map[string]string{"udev": "none"},
		Columns: []perf.Column{{Name: "overlay", Note: "on sand"}, {Name: "ours", Note: "on rock"}},
		Subject: "ours", Against: []string{"overlay", "absent"}, Notes: []string{`<script src="https://example.org/x.js"></script>`},
		Workloads: []perf.Workload{{Name: "W1", Title: "first write"}},
		NotRun:    []perf.NotRun{{Workload: "W4", Reason: "no image was named"}},
		Targets: []perf.Target{
			{Text: "half", Cell: perf.Cell{Row: "first write, 64 MiB", Column: "ours"}, Of: perf.Cell{Row: "first write, 64 MiB", Column: "overlay"}, AtMost: 0.5},
			{Text: "level", Cell: perf.Cell{Row: "read", Column: "ours"}, Of: perf.Cell{Row: "read", Column: "overlay"}, AtMost: 1.1},
			{Text: "other", AtMost: 1},
		},
	}
	for _, n := range []float64{1, 64} {
		name := map[float64]string{1: "first write, 1 MiB", 64: "first write, 64 MiB"}[n]
		for i := range 5 {
			v := 1 + float64(i)/100
			row := r.Add(name, perf.Seconds, "overlay", n*v)
			r.Add(name, perf.Seconds, "ours", 0.002*v)
			row.Workload, row.Series, row.Scale, row.ScaleName = "W1", "first write", n, "MiB"
		}
	}
	for i := range 5 {
		v := 1 + float64(i)/100
		r.Add("read", perf.Seconds, "overlay", 0.5*v)
		r.Add("read", perf.Seconds, "ours", 0.9*v)
		r.Add("same", perf.Seconds, "overlay", v)
		r.Add("same", perf.Seconds, "ours", v)
		r.Add("rate", perf.PerSecond, "overlay", 10*v)
		r.Add("rate", perf.PerSecond, "ours", 50*v)
	}
	r.AddPart("read", "ioctls", perf.Count, "ours", 3)
	return r
}

func written(t *testing.T, reports ...*perf.Report) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, Write(&b, reports...))
	return b.String()
}

// TestPage: what a reader must find, wins and losses alike.
func TestPage(t *testing.T) {
	got := written(t, example())
	for _, want := range []string{
		"<th>wins: 3</th>", "<th>losses: 1</th>",
		`<tr><td>read</td><td>overlay</td><td class="loss">1.80x slower (1.75 to 1.85)</td></tr>`,
		`<tr><td>rate</td><td>overlay</td><td class="win">5.00x faster (4.86 to 5.15)</td></tr>`,
		"No difference beyond noise: same against overlay.",
		`<li class="met">half: met (32000x faster, `, `<li class="missed">level: missed (1.80x, 1.75 to 1.85)</li>`, `<li class="unknown">other: not measured</li>`,
		"<tr><td>W4</td><td>all</td><td>no image was named</td></tr>", "<dt>udev</dt><dd>none</dd>", "<td>on rock</td>",
		"W1: first write</h3>", `<td class="part">ioctls</td>`, "bench &lt;b&gt;",
	} {
		assert.True(t, strings.Contains(got, want), want)
	}
	assert.Less(t, strings.Index(got, "32000x"), strings.Index(got, "500x faster"), "the greatest win first")
	assert.Equal(t, 4, strings.Count(got, "<svg"), "a line for the series; bars for read, same and rate")
}

// TestOffline: the page refers to nothing outside of it and runs nothing, whatever the
// report's texts are.
func TestOffline(t *testing.T) {
	r := example()
	r.Title, r.Columns[0].Note, r.Workloads[0].Title = `"><img src=//x>`, `<link href="//x">`, `<iframe>`
	got := written(t, r, example())
	assert.NotRegexp(t, regexp.MustCompile(`(?i)<(script|img|link|iframe|object|embed|base|use|image)\b`), got)
	assert.NotRegexp(t, regexp.MustCompile(`(?i)(src|href|data|action)\s*=\s*"[^#]`), got)
	assert.NotRegexp(t, regexp.MustCompile(`(?i)url\(|@import`), got)
	names := strings.ReplaceAll(got, `xmlns="http://www.w3.org/2000/svg"`, "")
	assert.NotContains(t, strings.ReplaceAll(names, "&lt;script src=&#34;https://example.org/x.js&#34;&gt;", ""), "://")
}

// TestOldReports: without workloads every row stands with its parts; rows that say
// they are parts of each other end nothing but the guessing.
func TestOldReports(t *testing.T) {
	r := &perf.Report{Columns: []perf.Column{{Name: "a"}}}
	for _, name := range []string{"docker run --rm, true", "docker run --rm, true: in the plugin", "docker ps"} {
		r.Add(name, perf.Seconds, "a", 1)
	}
	var titles []string
	for _, g := range groups(r) {
		titles = append(titles, g.title)
	}
	assert.Equal(t, []string{"docker run --rm, true", "docker ps"}, titles)
	assert.Len(t, Charts(r), 2)

	r.Rows[0].Of, r.Rows[2].Of = "docker ps", "docker run --rm, true"
	assert.Contains(t, written(t, r), "docker ps")
}
