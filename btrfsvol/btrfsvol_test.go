package btrfsvol

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestOpen(t *testing.T) {
	_, err := Open("/proc")
	require.ErrorIs(t, err, ErrNotBtrfs)
	_, err = Open(filepath.Join(t.TempDir(), "missing"))
	require.ErrorIs(t, err, ErrNotFound)

	fs := newFS(t)
	info, err := fs.Info()
	require.NoError(t, err)
	require.Equal(t, 1, info.Devices)
	require.EqualValues(t, nodeSize, info.NodeSize)
	require.Positive(t, info.Generation)
	require.DirExists(t, fs.sysfs())
}

func TestSubvolumeAndSnapshot(t *testing.T) {
	fs := newFS(t)
	require.NoError(t, os.Mkdir(filepath.Join(fs.Dir(), "shard"), 0o700))
	id := create(t, fs, "shard/one")
	fill(t, fs, "shard/one/file", 100_000)

	made := snapshot(t, fs, "shard/one", "two")
	require.Equal(t, "two", made.Name)
	require.Equal(t, TopLevel, made.Parent)
	require.False(t, made.ReadOnly)
	one, err := fs.Stat("shard/one")
	require.NoError(t, err)
	require.Equal(t, id, one.ID)
	require.Equal(t, one.UUID, made.ParentUUID)

	before, err := os.ReadFile(filepath.Join(fs.Dir(), "shard/one/file"))
	require.NoError(t, err)
	fill(t, fs, "two/file", 10)
	after, err := os.ReadFile(filepath.Join(fs.Dir(), "shard/one/file"))
	require.NoError(t, err)
	require.Equal(t, before, after)

	all, err := fs.Subvolumes()
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, "one", all[0].Name)
	path, err := fs.Path(all[0])
	require.NoError(t, err)
	require.Equal(t, "shard/one", path)
	// Two ways to the same description. The tree holds this transaction's
	// generation after the next commit only.
	require.NoError(t, fs.Sync())
	all, err = fs.Subvolumes()
	require.NoError(t, err)
	for i, path := range []string{"shard/one", "two"} {
		stat, err := fs.Stat(path)
		require.NoError(t, err)
		require.Equal(t, stat, all[i])
	}
}

func TestErrors(t *testing.T) {
	fs := newFS(t)
	create(t, fs, "there")
	require.NoError(t, os.Mkdir(filepath.Join(fs.Dir(), "there/plain"), 0o700))
	require.NoError(t, os.Symlink("/", filepath.Join(fs.Dir(), "link")))

	require.ErrorIs(t, fs.Create("there", CreateOptions{}), ErrExists)
	require.ErrorIs(t, fs.Create("no/such", CreateOptions{}), ErrNotFound)
	require.ErrorIs(t, fs.Create("../out", CreateOptions{}), unix.EXDEV)
	require.ErrorIs(t, fs.Create("link/out", CreateOptions{}), unix.ELOOP)
	require.ErrorIs(t, fs.Create("..", CreateOptions{}), unix.EINVAL)
	require.ErrorIs(t, fs.Snapshot("there", "there", CreateOptions{}), ErrExists)
	require.ErrorIs(t, fs.Snapshot("there/plain", "copy", CreateOptions{}), unix.EINVAL)
	_, err := fs.Stat("there/plain")
	require.ErrorIs(t, err, ErrNotFound)
	_, err = fs.Delete(9999)
	require.ErrorIs(t, err, ErrNotFound)
	_, err = fs.QgroupUsage(Qgroup(1, 1))
	require.Error(t, err)

	require.NoError(t, fs.SetReadOnly("there", true))
	require.ErrorIs(t, fs.Create("there/inner", CreateOptions{}), ErrReadOnly)
	_, _, err = fs.Lookup("missing")
	require.ErrorIs(t, err, ErrNotFound)
}

func TestSetReadOnly(t *testing.T) {
	fs := newFS(t)
	create(t, fs, "layer")
	fill(t, fs, "layer/file", 5)
	require.NoError(t, fs.SetReadOnly("layer", true))
	require.NoError(t, fs.SetReadOnly("layer", true), "twice")
	s, err := fs.Stat("layer")
	require.NoError(t, err)
	require.True(t, s.ReadOnly)
	err = os.WriteFile(filepath.Join(fs.Dir(), "layer/more"), nil, 0o600)
	require.ErrorIs(t, err, unix.EROFS)

	child := snapshot(t, fs, "layer", "child")
	require.False(t, child.ReadOnly, "a snapshot of a read-only subvolume is writable")
	require.NoError(t, fs.Snapshot("layer", "view", CreateOptions{ReadOnly: true}))
	view, err := fs.Stat("view")
	require.NoError(t, err)
	require.True(t, view.ReadOnly)
	require.NoError(t, fs.SetReadOnly("layer", false))
	fill(t, fs, "layer/more", 5)
}

func TestDeleteNested(t *testing.T) {
	fs := newFS(t)
	outer := create(t, fs, "outer")
	require.NoError(t, os.MkdirAll(filepath.Join(fs.Dir(), "outer/a/b"), 0o700))
	inner := create(t, fs, "outer/a/b/inner")
	innermost := create(t, fs, "outer/a/b/inner/innermost")
	sibling := create(t, fs, "outer/sibling")
	require.NoError(t, fs.SetReadOnly("outer/sibling", true))
	snapshot(t, fs, "outer", "kept")

	deleted, err := fs.Delete(outer)
	require.NoError(t, err)
	require.ElementsMatch(t, []SubvolumeID{innermost, inner, sibling, outer}, deleted)
	require.Equal(t, outer, deleted[len(deleted)-1])
	require.NoDirExists(t, filepath.Join(fs.Dir(), "outer"))
	require.DirExists(t, filepath.Join(fs.Dir(), "kept/a/b/inner"), "a stub stays in the snapshot")

	require.NoError(t, fs.Sync())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, fs.WaitGone(ctx, deleted...))
	backlog, err := fs.Backlog()
	require.NoError(t, err)
	require.Zero(t, backlog)
	all, err := fs.Subvolumes()
	require.NoError(t, err)
	require.Len(t, all, 1)
}

func TestWaitGoneEndsWithContext(t *testing.T) {
	fs := newFS(t)
	alive := create(t, fs, "alive")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, fs.WaitGone(ctx, alive), context.DeadlineExceeded)
}

func TestDeleteFreesSpace(t *testing.T) {
	fs := newFS(t)
	id := create(t, fs, "big")
	fill(t, fs, "big/file", 64<<20)
	require.NoError(t, fs.Sync())
	full, err := fs.Space()
	require.NoError(t, err)
	require.GreaterOrEqual(t, full.Data.Used, Bytes(64<<20))

	_, err = fs.Delete(id)
	require.NoError(t, err)
	require.NoError(t, fs.WaitCleaned(t.Context()))
	left, err := fs.countDeleted() // as before Linux 6.13
	require.NoError(t, err)
	require.Zero(t, left)
	freed, err := fs.Space()
	require.NoError(t, err)
	require.Less(t, freed.Data.Used, Bytes(1<<20))
}

func TestUsage(t *testing.T) {
	fs := newFS(t)
	create(t, fs, "base")
	fill(t, fs, "base/large", 1<<20)
	fill(t, fs, "base/small", 100)
	require.NoError(t, fs.Sync())
	base, err := fs.Stat("base")
	require.NoError(t, err)
	usage, err := fs.UsageSince(base.ID, 0)
	require.NoError(t, err)
	require.Equal(t, Usage{Data: 1 << 20, Inline: 100, Extents: usage.Extents}, usage)

	child := snapshot(t, fs, "base", "child")
	usage, err = fs.UsageSince(child.ID, child.Created)
	require.NoError(t, err)
	require.Zero(t, usage, "a fresh snapshot has nothing of its own")

	// Four bytes in the middle of a large shared file cost one block.
	f, err := os.OpenFile(filepath.Join(fs.Dir(), "child/large"), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("four"), 500_000)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, fs.Sync())
	usage, err = fs.UsageSince(child.ID, child.Created)
	require.NoError(t, err)
	require.Equal(t, Usage{Data: 4096, Extents: 1}, usage)
	usage, err = fs.UsageSince(child.ID, 0)
	require.NoError(t, err)
	require.Equal(t, Bytes(1<<20+4096), usage.Data)
}

func TestChangedIsTheLastWrite(t *testing.T) {
	fs := newFS(t)
	create(t, fs, "layer")
	fill(t, fs, "layer/file", 1<<20)
	require.NoError(t, fs.SetReadOnly("layer", true))
	require.NoError(t, fs.Sync())
	sealed, err := fs.Stat("layer")
	require.NoError(t, err)
	first := snapshot(t, fs, "layer", "first")
	require.LessOrEqual(t, sealed.Changed, first.Created)
	fill(t, fs, "first/file", 2<<20)
	require.NoError(t, fs.Sync())
	snapshot(t, fs, "layer", "second")
	third := snapshot(t, fs, "first", "third")

	layer, err := fs.Stat("layer")
	require.NoError(t, err)
	require.Equal(t, sealed.Changed, layer.Changed)
	usage, err := fs.UsageSince(third.ID, layer.Changed)
	require.NoError(t, err)
	require.Equal(t, Bytes(2<<20), usage.Total(), "what the snapshot between them wrote")
	usage, err = fs.UsageSince(layer.ID, 0)
	require.NoError(t, err)
	require.Equal(t, Bytes(1<<20), usage.Total())
}

func TestUsageOfManyExtents(t *testing.T) {
	fs := newFS(t)
	create(t, fs, "many")
	const files = 3000 // more items than one search's buffer holds
	for i := range files {
		fill(t, fs, fmt.Sprintf("many/%d", i), 5000)
	}
	require.NoError(t, fs.Sync())
	usage, err := fs.UsageSince(idOf(t, fs, "many"), 0)
	require.NoError(t, err)
	require.Equal(t, Usage{Data: files * 8192, Extents: files}, usage)
}

func TestConcurrentSnapshotsShareCommits(t *testing.T) {
	fs := newFS(t)
	create(t, fs, "source")
	const n = 32
	for i := range n {
		require.NoError(t, os.Mkdir(filepath.Join(fs.Dir(), fmt.Sprint(i)), 0o700))
	}
	require.NoError(t, fs.Sync())
	before, err := fs.Info()
	require.NoError(t, err)
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = fs.Snapshot("source", fmt.Sprintf("%d/s", i), CreateOptions{}) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	after, err := fs.Info()
	require.NoError(t, err)
	require.Less(t, after.Generation-before.Generation, TransactionID(n), "commits of %d snapshots", n)
	t.Logf("%d snapshots at once: %d commits", n, after.Generation-before.Generation)
}

func TestSpaceAndDevices(t *testing.T) {
	fs := newFS(t)
	devices, err := fs.Devices()
	require.NoError(t, err)
	require.Len(t, devices, 1)
	require.Equal(t, Bytes(1<<30), devices[0].Size)
	require.Contains(t, devices[0].Path, "/dev/loop")
	require.False(t, devices[0].Errors.Any())

	space, err := fs.Space()
	require.NoError(t, err)
	require.Equal(t, Bytes(1<<30), space.Size)
	require.Positive(t, space.Unallocated)
	require.Positive(t, space.MetadataSlack())
	require.Less(t, space.MetadataSlack(), space.Metadata.Total)
	require.NoError(t, fs.GrowToDevice())

	create(t, fs, "dirty")
	fill(t, fs, "dirty/file", 8<<20)
	after, err := fs.Space()
	require.NoError(t, err)
	require.GreaterOrEqual(t, after.Data.Used+after.Data.Reserved, space.Data.Used+8<<20, "written or not")
}
