package figures

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/perf"
)

const readme = "../../README.md"

// TestReadme: README.md's figures are those of the committed reports.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile(readme)
	require.NoError(t, err)
	renewed, err := Insert(string(text))
	require.NoError(t, err)
	assert.Equal(t, renewed, string(text), "run: make figures")
}

// TestNoOtherFigures: outside of the block README.md states nothing that was measured.
func TestNoOtherFigures(t *testing.T) {
	text, err := os.ReadFile(readme)
	require.NoError(t, err)
	before, rest, _ := strings.Cut(string(text), begin)
	_, after, _ := strings.Cut(rest, end)
	measured := regexp.MustCompile(`\d ?(ms|µs|seconds|MB/s|MiB/s|IOPS|x (faster|slower|less|more))|\d+(\.\d+)? times`)
	assert.Empty(t, measured.FindAllString(before+after, -1))
}

// maxSize bounds what a clone has to carry.
const maxSize = 300 << 10

// TestReports: each is small, whole, and says where it was made.
func TestReports(t *testing.T) {
	names, err := fs.Glob(committed, "*.json")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		r, err := read(committed, name)
		require.NoError(t, err, name)
		assert.NotEmpty(t, r.Machine.Kernel, name)
		assert.NotEmpty(t, r.Command, name)
		assert.NotEmpty(t, r.Versions, name)
		assert.NotEmpty(t, r.Subject, name)
		info, err := fs.Stat(committed, name)
		require.NoError(t, err)
		assert.LessOrEqual(t, info.Size(), int64(maxSize), name)
	}
}

const example = `{
  "title": "Side by side", "command": ["bench", "--rounds", "2"], "begun": "2026-01-02T03:04:00Z",
  "machine": {"kernel": "Linux 1.0", "processor": "Abacus", "cpus": 2, "memory": 1073741824, "load": "0 0 0", "disk": "ext4 on disk"},
  "versions": {"go": "1"}, "environment": {"udev": "no", "processors": "SMP"},
  "columns": [{"name": "vfs"}, {"name": "overlay/ext4"}, {"name": "blockstore/btrfs"}],
  "subject": "blockstore/btrfs", "against": ["vfs", "overlay/ext4"],
  "rows": [
    {"name": "W1 first write into a file, 1 MiB", "unit": "seconds", "series": "W1 first write into a file", "scale": 1, "scale_name": "MiB", "samples": {"vfs": [9]}},
    {"name": "W1 first write into a file, 64 MiB", "unit": "seconds", "series": "W1 first write into a file", "scale": 64, "scale_name": "MiB",
      "samples": {"vfs": [9], "overlay/ext4": [0.2, 0.2], "blockstore/btrfs": [0.002, 0.002]}},
    {"name": "W1 first write into a file, 64 MiB: ioctls", "of": "W1 first write into a file, 64 MiB", "unit": "count", "samples": {"vfs": [9]}},
    {"name": "W5 mount", "unit": "seconds", "samples": {"vfs": [9]}},
    {"name": "W12 read the same file, 50 containers", "unit": "seconds", "samples": {"overlay/ext4": [1, 1], "blockstore/btrfs": [5, 5]}},
    {"name": "unpack of 1 layer", "unit": "seconds", "series": "unpack", "scale": 1, "scale_name": "layers", "samples": {"vfs": [9]}}
  ]
}`

const exampleBlock = `
### Side by side

- [all samples](perf/figures/matrix-host.json), of ` + "`bench --rounds 2`" + `, begun 2026-01-02 03:04 UTC
- Linux 1.0; Abacus, 2 CPUs, 1.0 GiB; load 0 0 0; work on ext4 on disk
- processors: SMP; udev: no
- go 1

<img src="perf/figures/charts/matrix-host-first-write.png" width="640" alt="W1 first write into a file, medians at 1 and at 64 MiB: vfs 9.00 s and 9.00 s; overlay/ext4 not run and 200 ms; blockstore/btrfs not run and 2.00 ms">

<img src="perf/figures/charts/matrix-host-fan-out.png" width="640" alt="W12 read the same file, 50 containers, medians: overlay/ext4 1.00 s; blockstore/btrfs 5.00 s">

<img src="perf/figures/charts/matrix-host-unpack.png" width="640" alt="unpack of 1 layer, medians: vfs 9.00 s">

| medians                               | overlay/ext4 | blockstore/btrfs | blockstore/btrfs against overlay/ext4 |
|---------------------------------------|-------------:|-----------------:|--------------------------------------:|
| W1 first write into a file, 64 MiB    |       200 ms |          2.00 ms |               100x faster (100 to 100) |
| W12 read the same file, 50 containers |       1.00 s |           5.00 s |             5.00x slower (5.00 to 5.00) |

`

// TestBlock: what is not chosen and the lesser scales are left out; losses are not.
func TestBlock(t *testing.T) {
	dir := fstest.MapFS{"matrix-host.json": {Data: []byte(example)}}
	block, err := Block(dir)
	require.NoError(t, err)
	spaces := regexp.MustCompile(` +|-+`)
	assert.Equal(t, spaces.ReplaceAllString(exampleBlock, " "), spaces.ReplaceAllString(block, " "))
	dir["containerd-host.json"], dir["docker-uml.json"], dir["zfs-uml.json"] = dir["matrix-host.json"], dir["matrix-host.json"], dir["matrix-host.json"]
	block, err = Block(dir)
	require.NoError(t, err)
	order := regexp.MustCompile(`\(perf/figures/\w+`).FindAllString(block, -1)
	assert.Equal(t, []string{"(perf/figures/matrix", "(perf/figures/zfs", "(perf/figures/docker", "(perf/figures/containerd"}, order)
	open, _, _ := strings.Cut(block, "<details>")
	assert.Equal(t, 3, strings.Count(open, "<img"), "the first report's charts are not folded")
	assert.Equal(t, 3, strings.Count(block, "</details>"))
}

// TestChosen: rows of Docker's report are known by the names that they have there.
func TestChosen(t *testing.T) {
	r := &perf.Report{}
	names := []string{
		"docker create, a container", "docker diff after a small change", "docker commit after a small change", "docker rm of 20 containers, one command",
	}
	for _, name := range append(names, "docker ps", "docker rm, a container of those", "docker commit after a small change: in the plugin") {
		r.Add(name, perf.Seconds, "overlay2", 1)
	}
	var shown []string
	for _, row := range chosen(r) {
		shown = append(shown, row.Name)
	}
	assert.Equal(t, names, shown)
}

// TestBadReports and documents without a block are refused.
func TestBadReports(t *testing.T) {
	_, err := Block(fstest.MapFS{"matrix-host.json": {Data: []byte("{")}})
	assert.ErrorContains(t, err, "matrix-host.json: not a report")
	_, err = Block(fstest.MapFS{"matrix-host.json": {Data: []byte(strings.ReplaceAll(example, `"name": "W`, `"name": "X`))}})
	assert.ErrorContains(t, err, "none of the rows")
	for _, document := range []string{"", begin, end, begin + end + begin + end, end + begin} {
		_, err := Insert(document)
		assert.ErrorIs(t, err, ErrNoBlock, document)
	}
}
