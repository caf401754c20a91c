package metadata_test

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// tools are thin-provisioning-tools, the reference.
func tools(t testing.TB) {
	t.Helper()
	for _, name := range []string{"thin_check", "thin_dump", "thin_ls", "thin_delta", "thin_restore"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("no %s: package thin-provisioning-tools is not installed", name)
		}
	}
}

func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %v: %s%s", name, args, out, stderr.String())
	return string(out)
}

func writeFile(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "metadata")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// TestToolsAgree compares with thin_check, thin_dump, thin_ls and thin_delta, on metadata as they are and as
// thin_restore writes them.
func TestToolsAgree(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	tools(t)
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 2))
		b, m := randomPool(r, 170) // thin_check wants nodes a third full
		path := writeFile(t, b)
		compareWithTools(t, open(t, b), path, m)
		compareHeld(t, b, path)

		xml := writeFile(t, []byte(dump(t, open(t, b))))
		restored := writeFile(t, make([]byte, len(b)))
		tool(t, "thin_restore", "-i", xml, "-o", restored)
		b, err := os.ReadFile(restored)
		require.NoError(t, err)
		agree(t, open(t, b), m)
		compareWithTools(t, open(t, b), restored, m)
	}
}

func compareWithTools(t *testing.T, v *metadata.View, path string, m model) {
	t.Helper()
	tool(t, "thin_check", path)
	findings, err := v.Check(t.Context(), metadata.CheckOptions{})
	require.NoError(t, err)
	require.Empty(t, findings)
	require.Equal(t, tool(t, "thin_dump", path), dump(t, v))
	require.Equal(t, tool(t, "thin_ls", "--no-headers", "-o", lsColumns, path), ls(t, v))
	ids := slices.Sorted(maps.Keys(m))
	for i := 0; i+1 < min(len(ids), 4); i++ {
		left, right := ids[i], ids[len(ids)-1-i]
		want := tool(t, "thin_delta", "--thin1", fmt.Sprint(left), "--thin2", fmt.Sprint(right), path)
		o := metadata.DeltaOptions{Left: dm.DeviceID(left), Right: dm.DeviceID(right), Same: true}
		require.Equal(t, want, deltaXML(t, v, o), "devices %d and %d", left, right)
	}
}

// compareHeld compares the metadata snapshot, if there is one.
func compareHeld(t *testing.T, b []byte, path string) {
	t.Helper()
	v, err := metadata.OpenHeld(bytes.NewReader(b))
	if open(t, b).Superblock().HeldRoot == 0 {
		require.ErrorIs(t, err, metadata.ErrNotHeld)
		return
	}
	require.NoError(t, err)
	require.Equal(t, tool(t, "thin_ls", "-m", "--no-headers", "-o", lsColumns, path), ls(t, v))
	devices, err := v.Devices(t.Context())
	require.NoError(t, err)
	for _, d := range devices {
		want := tool(t, "thin_dump", "-m", "--dev-id", fmt.Sprint(d.ID), path)
		var got bytes.Buffer
		require.NoError(t, v.Dump(t.Context(), &got, metadata.DumpOptions{Devices: []dm.DeviceID{d.ID}}))
		_, want, _ = strings.Cut(want, "\n") // its first line says that there are no data blocks
		_, have, _ := strings.Cut(got.String(), "\n")
		require.Equal(t, want, have)
	}
	_, err = v.DataSpaceMap()
	require.ErrorIs(t, err, metadata.ErrNoSpaceMaps)
	findings, err := v.Check(t.Context(), metadata.CheckOptions{})
	require.NoError(t, err)
	require.Empty(t, findings)
}

func dump(t *testing.T, v *metadata.View) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, v.Dump(t.Context(), &b, metadata.DumpOptions{}))
	return b.String()
}

const lsColumns = "DEV,MAPPED_BLOCKS,EXCLUSIVE_BLOCKS,SHARED_BLOCKS,TRANSACTION,CREATE_TIME,SNAP_TIME"

// ls is the table of thin_ls, columns aligned to the right.
func ls(t *testing.T, v *metadata.View) string {
	t.Helper()
	u, err := v.Usage(t.Context())
	require.NoError(t, err)
	var rows [][]string
	for _, d := range u.Devices {
		row := []string{}
		for _, n := range []uint64{uint64(d.ID), uint64(d.Mapped), uint64(d.Exclusive), uint64(d.Shared()), uint64(d.TransactionID), uint64(d.Created), uint64(d.Snapshotted)} {
			row = append(row, fmt.Sprint(n))
		}
		rows = append(rows, row)
	}
	var b strings.Builder
	for _, row := range rows {
		for c, cell := range row {
			width := len(slices.MaxFunc(rows, func(x, y []string) int { return cmp.Compare(len(x[c]), len(y[c])) })[c])
			fmt.Fprintf(&b, "%*s ", width, cell)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func deltaXML(t *testing.T, v *metadata.View, o metadata.DeltaOptions) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, v.DumpDelta(t.Context(), &b, o))
	return b.String()
}

// TestDeltaOfALargeDevice: ten changed blocks in a million are found with few reads, and much faster than by walking.
func TestDeltaOfALargeDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	b, m := largePool()
	r := &countingReader{Reader: bytes.NewReader(b)}
	v, err := metadata.Open(r)
	require.NoError(t, err)
	o := metadata.DeltaOptions{Left: 1, Right: 2}
	want := m.changes(1, 2, false)
	require.Len(t, want, 10)
	require.Equal(t, want, deltaOf(t, v, o))
	t.Logf("%d metadata blocks read", r.blocks)
	require.LessOrEqual(t, r.blocks, 100)

	tools(t)
	path := writeFile(t, b)
	began := time.Now()
	tool(t, "thin_delta", "--thin1", "1", "--thin2", "2", path)
	theirs := time.Since(began)
	began = time.Now()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	v, err = metadata.Open(f)
	require.NoError(t, err)
	require.Equal(t, want, deltaOf(t, v, o))
	ours := time.Since(began)
	t.Logf("thin_delta %s, Delta %s: %.0f times", theirs, ours, float64(theirs)/float64(ours))
	require.GreaterOrEqual(t, float64(theirs)/float64(ours), 20.0)
}

// largePool has a million mappings in device 1, and device 2 a snapshot with ten of them changed.
func largePool() ([]byte, model) {
	const mappings = 1_000_000
	img := newImage(16384, 1<<21)
	blocks := make(map[uint64]uint64, mappings)
	for i := range uint64(mappings) {
		blocks[i] = i ^ 5 // runs are short
	}
	origin := *img.add(1, 180, blocks)
	d := img.snapshot(2, origin)
	changed := maps.Clone(blocks)
	for i := range uint64(10) {
		key := i*99_991 + 17
		changed[key] = 1_500_000 + i
		d.root = img.replace(d.root, key, mapping(changed[key], img.time))
	}
	return img.finish(), model{1: blocks, 2: changed}
}

// TestMemoryIsBounded: what is kept are bits for each block, not what the trees hold.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	b, _ := largePool()
	v := open(t, b)
	for name, c := range map[string]struct {
		limit uint64
		run   func() error
	}{
		"Usage": {1 << 20, func() error { _, err := v.Usage(t.Context()); return err }},
		"Check": {2 << 20, func() error { _, err := v.Check(t.Context(), metadata.CheckOptions{}); return err }},
		"Delta": {1 << 20, func() error {
			return v.DumpDelta(t.Context(), io.Discard, metadata.DeltaOptions{Left: 1, Right: 2, Same: true})
		}},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		require.NoError(t, c.run())
		runtime.ReadMemStats(&after)
		got := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s of a million mappings allocates %d KiB in all", name, got>>10)
		require.LessOrEqual(t, got, c.limit, name)
	}
}

type countingReader struct {
	*bytes.Reader
	blocks int
}

func (r *countingReader) ReadAt(b []byte, at int64) (int, error) {
	r.blocks += len(b) / dm.MetadataBlockSize
	return r.Reader.ReadAt(b, at)
}

func BenchmarkLargePool(b *testing.B) {
	image, _ := largePool()
	v := open(b, image)
	b.Run("Delta", func(b *testing.B) {
		for b.Loop() {
			for _, err := range v.Delta(b.Context(), metadata.DeltaOptions{Left: 1, Right: 2}) {
				require.NoError(b, err)
			}
		}
	})
	b.Run("Usage", func(b *testing.B) {
		for b.Loop() {
			_, err := v.Usage(b.Context())
			require.NoError(b, err)
		}
	})
	b.Run("Check", func(b *testing.B) {
		for b.Loop() {
			findings, err := v.Check(b.Context(), metadata.CheckOptions{})
			require.NoError(b, err)
			require.Empty(b, findings)
		}
	})
}
