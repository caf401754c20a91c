package snapshotter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// chain commits n snapshots on top of each other, "c0" the lowest.
func chain(t *testing.T, sn snapshots.Snapshotter, n int) (top string) {
	t.Helper()
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		_, err := sn.Prepare(t.Context(), "making "+name, top)
		require.NoError(t, err)
		require.NoError(t, sn.Commit(t.Context(), name, "making "+name))
		top = name
	}
	return top
}

// TestErrorClasses: every refusal has the class that containerd acts upon, and
// leaves everything as it was.
func TestErrorClasses(t *testing.T) {
	w := newWorld(t, directories())
	sn := w.remote("plugin")
	ctx := t.Context()
	top := chain(t, sn, 2)
	_, err := sn.Prepare(ctx, "active", top)
	require.NoError(t, err)
	_, err = sn.View(ctx, "view", top)
	require.NoError(t, err)
	labelled := func(k, v string) snapshots.Opt { return snapshots.WithLabels(map[string]string{k: v}) }
	flood := map[string]string{}
	for i := range 300 {
		flood[fmt.Sprintf("l%d", i)] = strings.Repeat("x", 4000)
	}
	prepare := func(key, parent string, o ...snapshots.Opt) func() error {
		return func() error { _, err := sn.Prepare(ctx, key, parent, o...); return err }
	}
	for name, c := range map[string]struct {
		do   func() error
		want func(error) bool
	}{
		"unknown key":              {func() error { _, err := sn.Stat(ctx, "none"); return err }, errdefs.IsNotFound},
		"mounts of unknown":        {func() error { _, err := sn.Mounts(ctx, "none"); return err }, errdefs.IsNotFound},
		"mounts of committed":      {func() error { _, err := sn.Mounts(ctx, top); return err }, errdefs.IsFailedPrecondition},
		"usage of unknown":         {func() error { _, err := sn.Usage(ctx, "none"); return err }, errdefs.IsNotFound},
		"missing parent":           {prepare("new", "none"), errdefs.IsNotFound},
		"active parent":            {prepare("new", "active"), errdefs.IsInvalidArgument},
		"view as parent":           {prepare("new", "view"), errdefs.IsInvalidArgument},
		"itself as parent":         {prepare("new", "new"), errdefs.IsNotFound},
		"key taken by active":      {prepare("active", top), errdefs.IsAlreadyExists},
		"key taken by committed":   {prepare(top, ""), errdefs.IsAlreadyExists},
		"view's key taken":         {func() error { _, err := sn.View(ctx, "view", top); return err }, errdefs.IsAlreadyExists},
		"empty key":                {prepare("", top), errdefs.IsInvalidArgument},
		"key with a NUL":           {prepare("a\x00b", top), errdefs.IsInvalidArgument},
		"long key":                 {prepare(strings.Repeat("k", 5000), top), errdefs.IsInvalidArgument},
		"long label":               {prepare("new", top, labelled("l", strings.Repeat("x", 4096))), errdefs.IsInvalidArgument},
		"flood of labels":          {prepare("new", top, snapshots.WithLabels(flood)), errdefs.IsInvalidArgument},
		"flood by update":          {func() error { _, err := sn.Update(ctx, snapshots.Info{Name: "active", Labels: flood}); return err }, errdefs.IsInvalidArgument},
		"update of unknown":        {func() error { _, err := sn.Update(ctx, snapshots.Info{Name: "none"}); return err }, errdefs.IsNotFound},
		"update of the parent":     {func() error { _, err := sn.Update(ctx, snapshots.Info{Name: "active"}, "parent"); return err }, errdefs.IsInvalidArgument},
		"size that is no number":   {prepare("new", top, labelled(labelMaxSize, "10G")), errdefs.IsInvalidArgument},
		"size below the parent's":  {prepare("new", top, labelled(labelMaxSize, "4096")), errdefs.IsInvalidArgument},
		"mapping that is none":     {prepare("new", top, labelled(snapshots.LabelSnapshotUIDMapping, "x")), errdefs.IsInvalidArgument},
		"commit of unknown":        {func() error { return sn.Commit(ctx, "new", "none") }, errdefs.IsNotFound},
		"commit of committed":      {func() error { return sn.Commit(ctx, "new", top) }, errdefs.IsFailedPrecondition},
		"commit of a view":         {func() error { return sn.Commit(ctx, "new", "view") }, errdefs.IsFailedPrecondition},
		"commit to a taken name":   {func() error { return sn.Commit(ctx, top, "active") }, errdefs.IsAlreadyExists},
		"commit on another parent": {func() error { return sn.Commit(ctx, "new", "active", snapshots.WithParent("c0")) }, errdefs.IsInvalidArgument},
		"remove of unknown":        {func() error { return sn.Remove(ctx, "none") }, errdefs.IsNotFound},
		"remove of a parent":       {func() error { return sn.Remove(ctx, "c0") }, errdefs.IsFailedPrecondition},
		"filter that is none":      {func() error { return sn.Walk(ctx, nobody, "name==") }, errdefs.IsInvalidArgument},
		"plugin that is none": {func() error {
			_, err := snapshotsapi.NewSnapshotsClient(w.client).Stat(ctx, &snapshotsapi.StatSnapshotRequest{Snapshotter: "../docker", Key: "x"})
			return errgrpc.ToNative(err)
		}, errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			before := keys(t, sn)
			err := c.do()
			require.Error(t, err)
			require.True(t, c.want(err), "%v", err)
			require.NotContains(t, err.Error(), "\n")
			require.Equal(t, before, keys(t, sn))
		})
	}
	require.Len(t, keys(t, sn), 4)
}

// TestCancelled: who does not wait for the answer changes nothing.
func TestCancelled(t *testing.T) {
	w := newWorld(t, directories())
	sn := w.local("plugin")
	top := chain(t, sn, 1)
	_, err := sn.Prepare(t.Context(), "active", top)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"Prepare": second(sn.Prepare(ctx, "new", top)), "View": second(sn.View(ctx, "new", top)),
		"Stat": second(sn.Stat(ctx, "active")), "Commit": sn.Commit(ctx, "new", "active"),
		"Usage": second(sn.Usage(ctx, "active")), "Walk": sn.Walk(ctx, nobody), "Remove": sn.Remove(ctx, "active"),
		"Update": second(sn.Update(ctx, snapshots.Info{Name: "active"})),
	} {
		require.ErrorIs(t, err, context.Canceled, name)
	}
	require.True(t, errdefs.IsFailedPrecondition(sn.Remove(ctx, "active")), "or containerd's collection ends with it")
	require.Len(t, keys(t, sn), 2)
}

func second[T any](_ T, err error) error { return err }

func nobody(context.Context, snapshots.Info) error { return errors.New("nobody was asked for") }

// keys are all that a plugin sees, with their kinds.
func keys(t *testing.T, sn snapshots.Snapshotter) map[string]snapshots.Kind {
	t.Helper()
	all := map[string]snapshots.Kind{}
	require.NoError(t, sn.Walk(t.Context(), func(_ context.Context, in snapshots.Info) error {
		all[in.Name] = in.Kind
		return nil
	}))
	return all
}

// TestEndedBeforeItBegan: a server that is told to end before it listens has ended well, whichever of both comes first.
func TestEndedBeforeItBegan(t *testing.T) {
	w := newWorld(t, directories())
	for range 1000 {
		door, err := New(w.store, Options{})
		require.NoError(t, err)
		l, err := net.Listen("unix", filepath.Join(w.dir, "other"))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, door.Serve(ctx, l))
		require.ErrorIs(t, l.Close(), net.ErrClosed)
	}
}

// TestScopesAreApart: containerd removes what it is shown and does not know.
func TestScopesAreApart(t *testing.T) {
	w := newWorld(t, directories())
	ctx := t.Context()
	_, err := w.store.Create(ctx, "somebody's", snapshot.CreateRequest{})
	require.NoError(t, err)
	_, err = w.store.Create(ctx, "docker/x", snapshot.CreateRequest{})
	require.NoError(t, err)
	a, b := w.remote("a"), w.remote("a-b")
	key := "default/12/extract-123-abcd sha256:1234"
	for _, sn := range []snapshots.Snapshotter{a, b} {
		require.Empty(t, keys(t, sn))
		_, err = sn.Prepare(ctx, key, "")
		require.NoError(t, err)
		require.Equal(t, map[string]snapshots.Kind{key: snapshots.KindActive}, keys(t, sn))
	}
	require.NoError(t, a.Remove(ctx, key))
	require.Empty(t, keys(t, a))
	require.Len(t, keys(t, b), 1)
	for _, name := range []string{"../../docker/x", "../a-b/" + key, "docker/x"} {
		require.True(t, errdefs.IsNotFound(a.Remove(ctx, name)), name)
	}
	_, err = a.Prepare(ctx, "stolen", "../../somebody's")
	require.True(t, errdefs.IsNotFound(err))
	all, err := w.store.List(ctx)
	require.NoError(t, err)
	require.Len(t, all, 3)
}

// TestRestart: what containerd was told holds after a restart of ours, through the
// same connection.
func TestRestart(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		w := newWorld(t, v)
		ctx := t.Context()
		sn := w.remote("plugin")
		top := chain(t, sn, 2)
		ms, err := sn.Prepare(ctx, "active", top, snapshots.WithLabels(map[string]string{"l": "v"}))
		require.NoError(t, err)
		dir := mounted(t, ms)
		write(t, dir, "f", "before")
		before, err := sn.Stat(ctx, "active")
		require.NoError(t, err)

		require.NoError(t, w.serve())
		require.NoError(t, w.store.Close(ctx))
		require.NoError(t, w.client.Close())
		write(t, dir, "g", "while nobody serves")
		require.NoError(t, w.start(ctx))

		sn = w.remote("plugin")
		after, err := sn.Stat(ctx, "active")
		require.NoError(t, err)
		require.Equal(t, before, after)
		again, err := sn.Mounts(ctx, "active")
		require.NoError(t, err)
		require.Equal(t, ms, again)
		write(t, dir, "h", "after")
		unmount(t, dir)
		require.NoError(t, sn.Commit(ctx, "committed", "active"))
		ms, err = sn.View(ctx, "view", "committed")
		require.NoError(t, err)
		dir = mounted(t, ms)
		for name, content := range map[string]string{"f": "before", "g": "while nobody serves", "h": "after"} {
			require.Equal(t, content, read(t, dir, name))
		}
		unmount(t, dir)
	})
}

// TestSize: max-size is a limit for whoever writes, on every driver.
func TestSize(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		v.o.BaseSize = 320 << 20
		w := newWorld(t, v)
		sn := w.remote("plugin")
		ms, err := sn.Prepare(t.Context(), "large", chain(t, sn, 1), snapshots.WithLabels(map[string]string{labelMaxSize: "419430400"}))
		require.NoError(t, err)
		dir := mounted(t, ms)
		defer unmount(t, dir)
		n, err := fill(dir)
		require.True(t, errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT), "%v", err)
		require.Greater(t, n, 300, "MiB: more than an ordinary snapshot has")
		require.LessOrEqual(t, n, 400, "MiB")
		require.NoError(t, os.Remove(filepath.Join(dir, "fill")))
		u, err := sn.Usage(t.Context(), "large")
		require.NoError(t, err)
		require.GreaterOrEqual(t, u.Size, int64(0))
	})
}

// TestUsage: what a snapshot wrote, without its parent's, whatever happens to it.
func TestUsage(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		w := newWorld(t, v)
		ctx := t.Context()
		sn := w.remote("plugin")
		const size = 8 << 20
		ms, err := sn.Prepare(ctx, "a", "")
		require.NoError(t, err)
		dir := mounted(t, ms)
		write(t, dir, "f", noise(size))
		unmount(t, dir)
		require.NoError(t, sn.Commit(ctx, "layer", "a"))
		u, err := sn.Usage(ctx, "layer")
		require.NoError(t, err)
		require.InDelta(t, size, u.Size, size/2)

		ms, err = sn.Prepare(ctx, "b", "layer")
		require.NoError(t, err)
		dir = mounted(t, ms)
		require.NoError(t, os.Remove(filepath.Join(dir, "f")))
		unmount(t, dir)
		_, err = sn.View(ctx, "view", "layer")
		require.NoError(t, err)
		for _, key := range []string{"b", "view"} {
			u, err = sn.Usage(ctx, key)
			require.NoError(t, err)
			require.GreaterOrEqual(t, u.Size, int64(0), key)
			require.Less(t, u.Size, int64(size/2), key)
		}
	})
}

// TestCleanup: Remove is a record, Cleanup the work; what is mounted waits, and
// stops nobody.
func TestCleanup(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		w := newWorld(t, v)
		ctx := t.Context()
		sn := w.remote("plugin")
		top := chain(t, sn, 1)
		ms, err := sn.Prepare(ctx, "busy", top)
		require.NoError(t, err)
		dir := mounted(t, ms)
		_, err = sn.Prepare(ctx, "idle", top)
		require.NoError(t, err)
		ids := func() int {
			ids, err := w.store.Driver().Volumes(ctx)
			require.NoError(t, err)
			return len(ids)
		}
		require.Equal(t, 3, ids())
		for _, key := range []string{"busy", "idle", top} {
			require.NoError(t, sn.Remove(ctx, key))
		}
		require.Empty(t, keys(t, sn))
		require.Equal(t, 3, ids(), "nothing but a record")
		clean := sn.(snapshots.Cleaner)
		require.NoError(t, clean.Cleanup(ctx))
		require.Equal(t, 1, ids(), "the one that is mounted")
		write(t, dir, "f", "still writable")
		unmount(t, dir)
		require.NoError(t, clean.Cleanup(ctx))
		require.Zero(t, ids())
	})
}

// TestRemapped: a mount of a snapshot with id mappings shows its owners mapped.
func TestRemapped(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		w := newWorld(t, v)
		ctx := t.Context()
		sn := w.remote("plugin")
		ms, err := sn.Prepare(ctx, "a", "")
		require.NoError(t, err)
		dir := mounted(t, ms)
		write(t, dir, "f", "root's")
		unmount(t, dir)
		require.NoError(t, sn.Commit(ctx, "layer", "a"))
		ms, err = sn.Prepare(ctx, "b", "layer", snapshots.WithLabels(map[string]string{
			snapshots.LabelSnapshotUIDMapping: "0:100000:65536", snapshots.LabelSnapshotGIDMapping: "0:200000:65536",
		}))
		require.NoError(t, err)
		require.Subset(t, ms[len(ms)-1].Options, []string{"uidmap=0:100000:65536", "gidmap=0:200000:65536"})
		dir = t.TempDir()
		require.NoError(t, mount.All(ms, dir))
		defer unmount(t, dir)
		var st syscall.Stat_t
		require.NoError(t, syscall.Stat(filepath.Join(dir, "f"), &st))
		require.EqualValues(t, 100000, st.Uid)
		require.EqualValues(t, 200000, st.Gid)
	})
}

// TestCrowd: many clients at once, some of which go away in the middle.
func TestCrowd(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		w := newWorld(t, v)
		ctx := t.Context()
		sn := w.remote("plugin")
		top := chain(t, sn, 1)
		const clients = 64
		var wg sync.WaitGroup
		errs := make([]error, clients)
		for i := range clients {
			wg.Go(func() {
				key := fmt.Sprintf("k%d", i)
				if i%4 == 0 { // it vanishes
					gone, cancel := context.WithCancel(ctx)
					go cancel()
					_, _ = sn.Prepare(gone, key, top)
					return
				}
				_, err := sn.Prepare(ctx, key, top)
				if err == nil && i%4 == 1 {
					err = sn.Commit(ctx, "committed "+key, key)
				}
				if err == nil && i%4 == 2 {
					err = sn.Remove(ctx, key)
				}
				errs[i] = err
			})
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		seen := keys(t, sn)
		for i := range clients {
			_, active := seen[fmt.Sprintf("k%d", i)]
			_, committed := seen[fmt.Sprintf("committed k%d", i)]
			require.Equal(t, i%4 == 1, committed, i)
			require.True(t, i%4 == 0 || active == (i%4 == 3), i)
		}
	})
}

// TestRawDevice: on device-mapper a mount names the device and its file system, so
// that a virtual machine can be given the device itself.
func TestRawDevice(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		w := newWorld(t, v)
		sn := w.remote("plugin")
		ms, err := sn.Prepare(t.Context(), "vm", chain(t, sn, 1))
		require.NoError(t, err)
		require.Len(t, ms, 1)
		if v.kind.Name() != "devicemapper" {
			require.Equal(t, map[string]string{"btrfs": "bind", "zfs": "zfs"}[v.kind.Name()], ms[0].Type, "there is no device of its own")
			return
		}
		require.Equal(t, v.o.FileSystem, ms[0].Type)
		st, err := os.Stat(ms[0].Source)
		require.NoError(t, err)
		require.NotZero(t, st.Mode()&os.ModeDevice)
		raw, err := os.ReadFile("/sys/class/block/" + deviceName(t, ms[0].Source) + "/size")
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(v.o.BaseSize/512), strings.TrimSpace(string(raw)))
	})
}

func deviceName(t *testing.T, path string) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(path)
	require.NoError(t, err)
	var st syscall.Stat_t
	require.NoError(t, syscall.Stat(real, &st))
	link, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", st.Rdev>>8&0xfff, st.Rdev&0xff|st.Rdev>>12&0xfff00))
	require.NoError(t, err)
	return filepath.Base(link)
}

// mounted performs mounts as containerd does.
func mounted(t *testing.T, ms []mount.Mount) string {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv("BSTEST_DIR"), "bstest-mnt-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.Remove(dir) })
	require.NoError(t, mount.All(ms, dir))
	t.Cleanup(func() { _ = mount.UnmountAll(dir, syscall.MNT_DETACH) })
	return dir
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, mount.UnmountAll(dir, 0))
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(raw)
}

// noise is text that ZFS makes no smaller.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return string(b)
}

// fill writes whole MiB to a file until it cannot, and says how many it wrote.
func fill(dir string) (int, error) {
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for n := 0; ; n++ {
		_, err := f.WriteString(noise(1 << 20))
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			return n, err
		}
	}
}
