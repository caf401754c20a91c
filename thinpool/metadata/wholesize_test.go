package metadata_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// sized is how much of the whole size a test takes: BLOCKSTORE_SOAK_METADATA=1 has all of it.
func sized() uint64 {
	if os.Getenv("BLOCKSTORE_SOAK_METADATA") != "" {
		return wholeSize
	}
	return wholeSize / 16
}

// besides is what the heap may hold beside what a limit speaks of: nodes, and what the collector lets lie.
const besides = 8 << 20

// TestWholeSize: the kernel's largest metadata are read in the memory that Check and Usage promise, whatever is mapped.
func TestWholeSize(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	u := newUnstored(sized(), 1)
	mapped := u.mapped()
	v, err := metadata.Open(u)
	require.NoError(t, err)
	devices, err := v.Devices(t.Context())
	require.NoError(t, err)
	require.Len(t, devices, len(mapped))
	// Two bits for each block of both kinds, a byte for each of metadata, a sum for each bitmap; and what the collector lets lie.
	kept := (u.data+u.blocks)/4 + u.blocks + (u.data+u.blocks)/perBitmap*8
	kept += kept/5 + besides
	for _, c := range []struct {
		name  string
		limit uint64
		run   func() error
	}{
		{"Check", kept, func() error {
			found, err := v.Check(t.Context(), metadata.CheckOptions{})
			require.Empty(t, found)
			return err
		}},
		{"Usage", kept, func() error { return u.usage(t, v) }},
		{"Delta", besides, func() error {
			only := deltaLengths(t, v, 2, 1)
			require.Equal(t, map[metadata.ChangeKind]dm.Blocks{metadata.RightOnly: dm.Blocks(mapped[0] - mapped[1])}, only)
			return nil
		}},
		{"Dump", besides, func() error { return v.Dump(t.Context(), io.Discard, metadata.DumpOptions{}) }},
	} {
		began := time.Now()
		got := peak(t, c.run)
		t.Logf("%s of %d MiB of metadata, %d mappings: %d KiB at most, %s", c.name, u.blocks>>8, mapped[0]+mapped[1]+mapped[2], got>>10, time.Since(began).Round(time.Millisecond))
		require.LessOrEqual(t, got, c.limit, c.name)
	}

	u.reads = 0
	require.Equal(t, map[metadata.ChangeKind]dm.Blocks{metadata.Different: 1}, deltaLengths(t, v, 2, 3))
	t.Logf("Delta of device 2 and its snapshot, %d mappings each: %d blocks read", mapped[1], u.reads)
	// The device's root looked up, the way down for the height, and the way to what differs: once for each device.
	require.LessOrEqual(t, u.reads, 2*(1+2*len(u.tree)))
}

// usage compares Usage with what is known.
func (u *unstored) usage(t *testing.T, v *metadata.View) error {
	mapped := u.mapped()
	usage, err := v.Usage(t.Context())
	if err != nil {
		return err
	}
	require.EqualValues(t, mapped[0]+1, usage.Used)
	require.EqualValues(t, mapped[1], usage.Shared)
	for i, alone := range []uint64{mapped[0] - mapped[1], 0, 1} {
		require.EqualValues(t, mapped[i], usage.Devices[i].Mapped)
		require.EqualValues(t, alone, usage.Devices[i].Exclusive)
	}
	return nil
}

// deltaLengths is how many blocks of each kind differ.
func deltaLengths(t *testing.T, v *metadata.View, left, right dm.DeviceID) map[metadata.ChangeKind]dm.Blocks {
	t.Helper()
	lengths := map[metadata.ChangeKind]dm.Blocks{}
	for d, err := range v.Delta(t.Context(), metadata.DeltaOptions{Left: left, Right: right}) {
		require.NoError(t, err)
		lengths[d.Kind] += d.Length
	}
	return lengths
}

// TestDataFarApart: where there are 64 times as many data blocks as the metadata could map, which is nearly the most that they can
// count, memory goes by what is mapped, wherever that lies.
func TestDataFarApart(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, c := range []struct {
		name   string
		blocks uint64
		sets   uint64 // of counts
		run    func(*unstored, *metadata.View) error
	}{
		{"Usage", sized(), 1, func(u *unstored, v *metadata.View) error { return u.usage(t, v) }},
		{"Group", sized(), 2, func(u *unstored, v *metadata.View) error {
			mapped := u.mapped()
			group, err := v.Group(t.Context(), 1, 3)
			require.EqualValues(t, mapped[0]+1, group.Mapped)
			require.EqualValues(t, mapped[0]-mapped[1]+1, group.Exclusive)
			return err
		}},
		{"Check", sized() / 32, 1, func(_ *unstored, v *metadata.View) error { // it looks at each data block
			found, err := v.Check(t.Context(), metadata.CheckOptions{})
			require.Empty(t, found)
			return err
		}},
	} {
		u := newUnstored(c.blocks, 1<<14)
		require.Greater(t, u.data, 60*perNode*u.blocks)
		mapped := u.mapped()[0] + 1
		v, err := metadata.Open(u)
		require.NoError(t, err)
		began := time.Now()
		got := peak(t, func() error { return c.run(u, v) })
		t.Logf("%s of %d data blocks, %d of them mapped: %d KiB at most, %s", c.name, u.data, mapped, got>>10, time.Since(began).Round(time.Millisecond))
		// Eight bytes for each block that is mapped, 32 for each bitmap; of metadata as above.
		kept := c.sets*(8*mapped+32*(u.data/perBitmap)+u.blocks/4) + u.blocks
		require.LessOrEqual(t, got, kept+kept/5+besides, c.name)
	}
}

// TestClaimedDataBlocks: a superblock that says that there are more data blocks is found out, and takes no memory for them.
func TestClaimedDataBlocks(t *testing.T) {
	u := newUnstored(wholeSize/256, 1)
	u.claim = u.blocks * perBitmap
	v, err := metadata.Open(u)
	require.NoError(t, err)
	got := peak(t, func() error {
		found, err := v.Check(t.Context(), metadata.CheckOptions{})
		require.Len(t, found, 1)
		require.Contains(t, found[0].Text, "bitmaps instead of")
		return err
	})
	t.Logf("Check of %d data blocks, %d of them real: %d KiB at most", u.claim, u.data, got>>10)
	kept := (u.data+u.blocks)/4 + u.blocks + 32*u.blocks
	require.LessOrEqual(t, got, kept+kept/5+besides)
	u.claim++
	_, err = metadata.Open(u)
	require.ErrorIs(t, err, metadata.ErrCorrupt)
}

// peak is the most that a function has on the heap beyond what was there before, as often as can be looked.
func peak(t *testing.T, run func() error) (most uint64) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	runtime.GC()
	heap := func() uint64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	before, stop := heap(), make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			most = max(most, max(heap(), before)-before)
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	err := run()
	close(stop)
	looking.Wait()
	require.NoError(t, err)
	return most
}

// TestUnstoredIsValid: thin_check has nothing to say about what is read here.
func TestUnstoredIsValid(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	tools(t)
	for _, c := range []struct{ blocks, spread uint64 }{{sized() / 16, 1}, {sized() / 256, 1 << 14}} {
		u := newUnstored(c.blocks, c.spread)
		f, err := os.Create(filepath.Join(t.TempDir(), "metadata"))
		require.NoError(t, err)
		_, err = io.Copy(f, io.NewSectionReader(u, 0, int64(u.blocks*imageBlock)))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		out, err := exec.CommandContext(t.Context(), "thin_check", f.Name()).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}
