package figures

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/chart"
)

// maxChart bounds what a reader of README.md has to load of each.
const maxChart = 40 << 10

// TestCharts: README.md's are those of the committed reports, pixel by pixel, and there
// is no other.
func TestCharts(t *testing.T) {
	want, err := Pictures()
	require.NoError(t, err)
	require.NotEmpty(t, want)
	files, err := filepath.Glob("charts/*")
	require.NoError(t, err)
	assert.Len(t, files, len(want))
	for name, drawing := range want {
		have, err := os.ReadFile(filepath.Join("charts", name))
		require.NoError(t, err, "run: make figures")
		assert.True(t, Shows(have, drawing), "%s: run: make figures", name)
		assert.LessOrEqual(t, len(have), maxChart, name)
	}
	text, err := os.ReadFile(readme)
	require.NoError(t, err)
	shown := regexp.MustCompile(`<img src="perf/figures/charts/([^"]+)"`).FindAllStringSubmatch(string(text), -1)
	assert.Len(t, shown, len(want))
	for _, match := range shown {
		assert.Contains(t, want, match[1])
	}
}

func exampleReport(t *testing.T) *perf.Report {
	t.Helper()
	r, err := perf.Read(strings.NewReader(example))
	require.NoError(t, err)
	return r
}

// TestShows: a median that moved by a hundredth is another picture, and so is another
// run's with the same samples.
func TestShows(t *testing.T) {
	drawing := func(r *perf.Report) chart.Drawing { return pictures("a.json", r)[1].drawing }
	var b bytes.Buffer
	require.NoError(t, drawing(exampleReport(t)).PNG(&b))
	assert.True(t, Shows(b.Bytes(), drawing(exampleReport(t))))
	moved, other := exampleReport(t), exampleReport(t)
	moved.Rows[4].Samples["overlay/ext4"] = perf.Samples{1.01, 1.01}
	assert.False(t, Shows(b.Bytes(), drawing(moved)))
	other.Machine.Kernel = "Linux 1.1"
	assert.False(t, Shows(b.Bytes(), drawing(other)))
	assert.False(t, Shows(nil, drawing(other)))
}

// TestPictures: reports of all three programs have theirs, of the rows that they hold, by
// who took part in them.
func TestPictures(t *testing.T) {
	r := &perf.Report{Columns: []perf.Column{{Name: "idle"}, {Name: "overlay2"}, {Name: `"blockstore"`}}}
	for _, name := range []string{
		"docker create, a container", "docker create, a container: in the plugin", "first write: four bytes, cold", "docker rm of 20 containers, one command",
		"remove", "remove: the cleanup afterwards", "prepare, 1 present", "W14 4 KiB random writes, depth 1", "W14 4 KiB random writes, depth 32",
		"W10 space of a container after four bytes into a file of 256 MiB", "W5 create, 1 layers", "W5 create, 1 layers: and until it is on disk",
	} {
		r.Add(name, perf.Seconds, "overlay2", 1)
		r.Add(name, perf.Seconds, `"blockstore"`, 2)
	}
	var files []string
	for _, p := range pictures("x-uml.json", r) {
		files = append(files, p.file)
		assert.NotContains(t, p.alt, "idle")
		assert.NotContains(t, p.alt, ":  ")
	}
	assert.Equal(t, []string{
		"x-uml-create.png", "x-uml-space.png", "x-uml-steady.png", "x-uml-docker-first-write.png", "x-uml-docker-create.png", "x-uml-docker-rm.png",
		"x-uml-prepare.png", "x-uml-remove.png",
	}, files)
	var b strings.Builder
	show(&b, pictures("x-uml.json", r)[:1], false)
	assert.Equal(t, `<img src="perf/figures/charts/x-uml-create.png" width="640" alt="W5 create, 1 layers, medians: overlay2 1.00 s; &#34;blockstore&#34; 2.00 s">`+"\n\n", b.String())
}

// TestCaption: what is drawn, and of which run.
func TestCaption(t *testing.T) {
	r := exampleReport(t)
	r.Machine.Kernel, r.Machine.UML = "Linux 6.1.176 #1 Sat Jul 4", true
	r.Versions["blockstore"] = "blockstore 8e6c995 go1.26.8 linux/amd64"
	got := caption("matrix-uml.json", r)
	assert.Equal(t, "matrix-uml.json; 2026-01-02; Linux 6.1.176, User Mode Linux; 2 CPUs; blockstore 8e6c995", got[1])
	assert.Contains(t, got[0], "markers")
	r.Rows = r.Rows[:1]
	assert.Contains(t, caption("matrix-uml.json", r)[0], "bars")
}
