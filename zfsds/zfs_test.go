package zfsds

import (
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestBothWays is the table: every case holds by ioctls and by commands.
func TestBothWays(t *testing.T) {
	cases := []struct {
		name string
		run  func(t *testing.T, w *world)
	}{
		{"Life", caseLife},
		{"Names", caseNames},
		{"Absent", caseAbsent},
		{"Exists", caseExists},
		{"Dependents", caseDependents},
		{"Busy", caseBusy},
		{"DeferredDestruction", caseDeferred},
		{"SnapshotsAtOnce", caseAtOnce},
		{"Properties", caseProperties},
		{"NativeProperties", caseNative},
		{"Lists", caseLists},
		{"Usage", caseUsage},
		{"Quota", caseQuota},
		{"Holds", caseHolds},
		{"Signals", caseSignals},
		{"Rollback", caseRollback},
		{"Promote", casePromote},
		{"Streams", caseStreams},
		{"BrokenStreams", caseBrokenStreams},
		{"PoolState", casePool},
		{"Cancelled", caseCancelled},
	}
	bothWays(t, func(t *testing.T, w *world) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) { c.run(t, w) })
		}
	})
}

func caseLife(t *testing.T, w *world) {
	ctx := t.Context()
	fs := w.create(t, "life")
	w.in(t, fs, false, func(dir string) { require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), []byte("one"), 0o600)) })
	first := w.snap(t, fs+"@first")
	require.NoError(t, w.Clone(ctx, first, w.name("clone"), Properties{"org.example:id": "7"}))
	w.in(t, w.name("clone"), false, func(dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), []byte("two"), 0o600))
	})
	w.in(t, first, true, func(dir string) {
		text, err := os.ReadFile(filepath.Join(dir, "f"))
		require.NoError(t, err)
		require.Equal(t, "one", string(text))
		require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "g"), nil, 0o600), unix.EROFS)
	})
	d, err := w.Stat(ctx, w.name("clone"))
	require.NoError(t, err)
	require.Equal(t, Filesystem, d.Type)
	require.Equal(t, first, d.Origin)
	require.NotZero(t, d.GUID)
	s, err := w.Stat(ctx, first)
	require.NoError(t, err)
	require.Equal(t, Snapshot, s.Type)
	require.Equal(t, 1, s.Clones)
	require.Empty(t, s.Origin)
	require.Equal(t, fs, s.Parent())
	require.NoError(t, w.Rename(ctx, w.name("clone"), w.name("renamed")))
	again, err := w.Stat(ctx, w.name("renamed"))
	require.NoError(t, err)
	require.Equal(t, d.GUID, again.GUID)
	require.NoError(t, w.Rename(ctx, first, fs+"@other"))
	require.NoError(t, w.Destroy(ctx, w.name("renamed")))
	require.NoError(t, w.DestroySnapshots(ctx, false, fs+"@other"))
	require.NoError(t, w.Destroy(ctx, fs))
	_, err = w.Stat(ctx, fs)
	require.ErrorIs(t, err, ErrNotFound)
}

func caseNames(t *testing.T, w *world) {
	ctx := t.Context()
	for _, name := range []string{
		"", "/", "a//b", "-r", "1pool", w.pool + "/", w.pool + "/a@b", w.pool + "/a/../b", w.pool + "/ä", w.pool + "/a\x00b",
		w.pool + "/$hidden", w.pool + "/a%recv", w.name(strings.Repeat("x", 300)), "a\nb",
	} {
		require.ErrorIs(t, w.Create(ctx, name, nil), ErrInvalid, "%q", name)
		require.ErrorIs(t, w.Destroy(ctx, name), ErrInvalid, "%q", name)
	}
	for _, name := range []string{w.pool, w.pool + "@", w.pool + "@a@b", w.pool + "@a/b", "@a", w.pool + "@" + strings.Repeat("x", 300)} {
		require.ErrorIs(t, w.Snapshot(ctx, nil, name), ErrInvalid, "%q", name)
	}
	require.ErrorIs(t, w.Snapshot(ctx, nil, w.pool+"@a", "other@a"), ErrInvalid, "two pools")
	for _, p := range []Properties{{"-o": "x"}, {"": "x"}, {"a=b": "c"}, {"org.example:x": "two\nlines"}, {"org.example:x": strings.Repeat("x", 9000)}} {
		require.ErrorIs(t, w.Set(ctx, w.pool, p), ErrInvalid, "%.40v", p)
	}
}

func caseAbsent(t *testing.T, w *world) {
	ctx := t.Context()
	none := w.name("none")
	_, err := w.Get(ctx, none)
	require.ErrorIs(t, err, ErrNotFound)
	_, err = w.WrittenSince(ctx, w.pool, w.pool+"@none")
	require.ErrorIs(t, err, ErrNotFound)
	_, err = w.Holds(ctx, none+"@s")
	require.ErrorIs(t, err, ErrNotFound)
	for name, err := range map[string]error{
		"create":    w.Create(ctx, none+"/below", nil),
		"clone":     w.Clone(ctx, w.pool+"@none", none, nil),
		"snapshot":  w.Snapshot(ctx, nil, none+"@s"),
		"destroy":   w.Destroy(ctx, none),
		"rename":    w.Rename(ctx, none, none+"2"),
		"promote":   w.Promote(ctx, none),
		"rollback":  w.Rollback(ctx, none+"@s"),
		"set":       w.Set(ctx, none, Properties{"org.example:a": "b"}),
		"inherit":   w.Inherit(ctx, none, "org.example:a"),
		"hold":      w.Hold(ctx, none+"@s", "tag"),
		"send":      w.Send(ctx, io.Discard, SendOptions{Snapshot: none + "@s"}),
		"no pool":   w.Create(ctx, "bstest-no-such-pool/a", nil),
		"stat pool": func() error { _, err := w.Pool(ctx, "bstest-no-such-pool"); return err }(),
		"sync pool": w.Sync(ctx, "bstest-no-such-pool"),
	} {
		require.ErrorIs(t, err, ErrNotFound, name)
	}
	require.NoError(t, w.DestroySnapshots(ctx, false, none+"@a", w.pool+"@b"), "they are destroyed already")
	for _, err := range w.Children(ctx, none) {
		require.ErrorIs(t, err, ErrNotFound)
	}
	for _, err := range w.Snapshots(ctx, none) {
		require.ErrorIs(t, err, ErrNotFound)
	}
}

func caseExists(t *testing.T, w *world) {
	ctx := t.Context()
	fs := w.create(t, "exists")
	s := w.snap(t, fs+"@s")
	require.ErrorIs(t, w.Create(ctx, fs, nil), ErrExists)
	require.ErrorIs(t, w.Clone(ctx, s, fs, nil), ErrExists)
	require.ErrorIs(t, w.Snapshot(ctx, nil, s), ErrExists)
	require.ErrorIs(t, w.Rename(ctx, w.create(t, "exists2"), fs), ErrExists)
	require.NoError(t, w.Destroy(ctx, w.name("exists2")))
	require.NoError(t, w.DestroySnapshots(ctx, false, s))
	require.NoError(t, w.Destroy(ctx, fs))
}

func caseDependents(t *testing.T, w *world) {
	ctx := t.Context()
	fs := w.create(t, "parent")
	child := w.create(t, "parent/child")
	require.ErrorIs(t, w.Destroy(ctx, fs), ErrDependents, "a child")
	require.NoError(t, w.Destroy(ctx, child))
	s := w.snap(t, fs+"@s")
	require.ErrorIs(t, w.Destroy(ctx, fs), ErrDependents, "a snapshot")
	require.NoError(t, w.Clone(ctx, s, w.name("clone"), nil))
	require.ErrorIs(t, w.DestroySnapshots(ctx, false, s), ErrDependents, "a clone")
	require.NoError(t, w.Destroy(ctx, w.name("clone")))
	require.NoError(t, w.DestroySnapshots(ctx, false, s))
	require.NoError(t, w.Destroy(ctx, fs))
}

func caseBusy(t *testing.T, w *world) {
	ctx := t.Context()
	fs := w.create(t, "busy")
	s := w.snap(t, fs+"@s")
	w.in(t, s, true, func(string) {
		require.ErrorIs(t, w.DestroySnapshots(ctx, false, s), ErrBusy, "a mounted snapshot")
	})
	require.NoError(t, w.DestroySnapshots(ctx, false, s))
	w.in(t, fs, false, func(dir string) {
		require.ErrorIs(t, w.Destroy(ctx, fs), ErrBusy)
		require.NoError(t, w.Rename(ctx, fs, fs+"2"), "what is mounted can be renamed")
		require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600), "and is mounted then")
		require.NoError(t, w.Rename(ctx, fs+"2", fs))
	})
	require.NoError(t, w.Destroy(ctx, fs))
}

func caseDeferred(t *testing.T, w *world) {
	ctx := t.Context()
	fs := w.create(t, "deferred")
	s := w.snap(t, fs+"@s")
	require.NoError(t, w.Clone(ctx, s, w.name("clone"), nil))
	require.NoError(t, w.DestroySnapshots(ctx, true, s))
	_, err := w.Stat(ctx, s)
	require.NoError(t, err, "it stays for its clone")
	require.NoError(t, w.Destroy(ctx, w.name("clone")))
	_, err = w.Stat(ctx, s)
	require.ErrorIs(t, err, ErrNotFound, "and goes with it")
	require.NoError(t, w.DestroySnapshots(ctx, true, w.snap(t, fs+"@t")))
	_, err = w.Stat(ctx, fs+"@t")
	require.ErrorIs(t, err, ErrNotFound, "one without clones goes at once")
	require.NoError(t, w.Destroy(ctx, fs))
}

func caseAtOnce(t *testing.T, w *world) {
	ctx := t.Context()
	a, b := w.create(t, "a"), w.create(t, "b")
	require.NoError(t, w.Snapshot(ctx, Properties{"org.example:k": "v"}, a+"@s", b+"@s"))
	one, err := w.Get(ctx, a+"@s")
	require.NoError(t, err)
	two, err := w.Stat(ctx, b+"@s")
	require.NoError(t, err)
	require.Equal(t, one.Created, two.Created, "one transaction group")
	require.Equal(t, UserProperty{Value: "v", Source: a + "@s"}, one.User["org.example:k"])
	require.ErrorIs(t, w.Snapshot(ctx, nil, a+"@new", b+"@s"), ErrExists)
	_, err = w.Stat(ctx, a+"@new")
	require.ErrorIs(t, err, ErrNotFound, "all or none")
	require.NoError(t, w.Snapshot(ctx, nil))
	var many []string
	for i := range 12 {
		many = append(many, w.snap(t, a+"@"+strings.Repeat("x", i+1)))
	}
	require.NoError(t, w.DestroySnapshots(ctx, false, append(many, a+"@s", b+"@s", a+"@absent")...))
	require.NoError(t, w.Destroy(ctx, a))
	require.NoError(t, w.Destroy(ctx, b))
}

func caseProperties(t *testing.T, w *world) {
	ctx := t.Context()
	fs := w.create(t, "props")
	child := w.create(t, "props/child")
	hard := "tabs\tand \"quotes\" = ü -"
	require.NoError(t, w.Set(ctx, fs, Properties{"org.example:a": hard, "org.example:b": "2"}))
	require.NoError(t, w.Set(ctx, child, Properties{"org.example:b": "3"}))
	d, err := w.Get(ctx, child)
	require.NoError(t, err)
	require.Equal(t, UserProperty{Value: hard, Source: fs}, d.User["org.example:a"])
	require.Equal(t, UserProperty{Value: "3", Source: child}, d.User["org.example:b"])
	require.Equal(t, UserProperty{Value: "false", Source: w.pool}, d.User["com.sun:auto-snapshot"])
	require.True(t, d.KeyLoaded)
	require.False(t, d.Encrypted)
	require.NoError(t, w.Inherit(ctx, child, "org.example:b"))
	require.NoError(t, w.Inherit(ctx, child, "org.example:never"), "one that is not set")
	d, err = w.Get(ctx, child)
	require.NoError(t, err)
	require.Equal(t, UserProperty{Value: "2", Source: fs}, d.User["org.example:b"])
	require.NoError(t, w.Set(ctx, fs, nil))
	require.NoError(t, w.Destroy(ctx, child))
	require.NoError(t, w.Destroy(ctx, fs))
}

// caseNative sets every native property in every word that this package has for it: one value of each, the next of each when zfs(8)
// has shown them, by one command for all.
func caseNative(t *testing.T, w *world) {
	ctx := t.Context()
	fs := w.create(t, "native")
	const size = "67108864"
	values := map[string][]string{
		"recordsize": {"65536"}, "copies": {"2"}, "mountpoint": {"none", "legacy"},
		"quota": {size, "none"}, "refquota": {size, "none"}, // before what is to fit
		"reservation": {"none", size, "none"}, "refreservation": {"none", size, "none"},
	}
	for property, words := range native {
		for _, word := range slices.Sorted(maps.Keys(words)) {
			if !slices.Contains(values[property], word) {
				values[property] = append(values[property], word)
			}
		}
	}
	said := map[string]string{"acltype=noacl": "off", "acltype=posixacl": "posix", "xattr=sa": "on", "xattr=dir": "on"}
	for round := 0; ; round++ {
		set := map[string]string{}
		for _, property := range slices.Sorted(maps.Keys(values)) {
			if all := values[property]; round < len(all) {
				set[property] = all[round]
				require.NoError(t, w.Set(ctx, fs, Properties{property: all[round]}), "%s=%s", property, all[round])
			}
		}
		if len(set) == 0 {
			break
		}
		out, err := exec.Command("zfs", "get", "-Hp", "-o", "property,value", strings.Join(slices.Sorted(maps.Keys(set)), ","), fs).Output()
		require.NoError(t, err)
		shown := map[string]string{}
		for line := range strings.Lines(string(out)) {
			property, value, _ := strings.Cut(strings.TrimSpace(line), "\t")
			shown[property] = value
		}
		for property, value := range set {
			want := []string{value}
			if other, ok := said[property+"="+value]; ok {
				want = append(want, other)
			}
			if slices.Contains([]string{"0", "none"}, value) {
				want = []string{"0", "none"}
			}
			require.Contains(t, shown, property)
			require.Contains(t, want, shown[property], "%s=%s", property, value)
		}
	}
	require.ErrorIs(t, w.Set(ctx, fs, Properties{"atime": "perhaps"}), ErrInvalid)
	require.NoError(t, w.Destroy(ctx, fs))
}

func caseLists(t *testing.T, w *world) {
	ctx := t.Context()
	root := w.create(t, "lists")
	require.Empty(t, w.names(t, w.Children(ctx, root)))
	require.Empty(t, w.names(t, w.Snapshots(ctx, root)))
	for _, below := range []string{"c", "a", "b", "b/below"} {
		w.create(t, "lists/"+below)
	}
	require.Equal(t, []string{root + "/a", root + "/b", root + "/c"}, w.names(t, w.Children(ctx, root)))
	for _, s := range []string{"@z", "@y", "@x"} {
		w.snap(t, root+s)
		require.NoError(t, w.Sync(ctx, w.pool))
	}
	require.Equal(t, []string{root + "@z", root + "@y", root + "@x"}, w.names(t, w.Snapshots(ctx, root)), "oldest first")
	require.NoError(t, w.Clone(ctx, root+"@y", root+"/clone", nil))
	for d, err := range w.Children(ctx, root) {
		require.NoError(t, err)
		stat, err := w.Stat(ctx, d.Name)
		require.NoError(t, err)
		require.Equal(t, stat, d)
	}
	for d, err := range w.Snapshots(ctx, root) {
		require.NoError(t, err)
		stat, err := w.Stat(ctx, d.Name)
		require.NoError(t, err)
		require.Equal(t, stat, d)
	}
	for range w.Children(ctx, root) {
		break
	}
	for _, below := range []string{"clone", "b/below", "a", "b", "c"} {
		require.NoError(t, w.Destroy(ctx, root+"/"+below))
	}
	require.NoError(t, w.DestroySnapshots(ctx, false, root+"@x", root+"@y", root+"@z"))
	require.NoError(t, w.Destroy(ctx, root))
}

func caseUsage(t *testing.T, w *world) {
	const size = 8 << 20
	ctx := t.Context()
	fs := w.create(t, "usage")
	w.in(t, fs, false, func(dir string) { fill(t, filepath.Join(dir, "f"), size) })
	first := w.snap(t, fs+"@first")
	require.NoError(t, w.Clone(ctx, first, w.name("usage2"), nil))
	w.in(t, w.name("usage2"), false, func(dir string) { fill(t, filepath.Join(dir, "g"), size) })
	require.NoError(t, w.Sync(ctx, w.pool))
	near := func(want int, got Bytes) {
		t.Helper()
		require.GreaterOrEqual(t, int(got), want)
		require.LessOrEqual(t, int(got), want+1<<20)
	}
	d, err := w.Get(ctx, w.name("usage2"))
	require.NoError(t, err)
	near(2*size, d.Referenced)
	near(size, d.Written)
	near(size, d.Used)
	near(size, d.UsedByDataset)
	near(2*size, d.LogicalReferenced)
	require.NotZero(t, d.Available)
	n, err := w.WrittenSince(ctx, w.name("usage2"), first)
	require.NoError(t, err)
	near(size, n)
	second := w.snap(t, w.name("usage2@second"))
	n, err = w.WrittenSince(ctx, second, first)
	require.NoError(t, err)
	near(size, n)
	n, err = w.WrittenSince(ctx, w.name("usage2"), second)
	require.NoError(t, err)
	require.Less(t, int(n), 1<<20)
	s, err := w.Get(ctx, second)
	require.NoError(t, err)
	near(size, s.Written)
	near(2*size, s.Referenced)
	require.NoError(t, w.DestroySnapshots(ctx, false, second))
	require.NoError(t, w.Destroy(ctx, w.name("usage2")))
	require.NoError(t, w.DestroySnapshots(ctx, false, first))
	require.NoError(t, w.Destroy(ctx, fs))
}

func caseQuota(t *testing.T, w *world) {
	ctx := t.Context()
	require.NoError(t, w.Create(ctx, w.name("quota"), Properties{"refquota": "4194304"}))
	d, err := w.Get(ctx, w.name("quota"))
	require.NoError(t, err)
	require.Equal(t, Limits{RefQuota: 4 << 20}, d.Limits)
	w.in(t, w.name("quota"), false, func(dir string) {
		f, err := os.Create(filepath.Join(dir, "f"))
		require.NoError(t, err)
		_, err = f.Write(noise(12 << 20))
		if err == nil {
			err = f.Sync()
		}
		require.ErrorIs(t, err, unix.EDQUOT, "12 MiB into 4")
		require.NoError(t, f.Close())
	})
	require.NoError(t, w.Destroy(ctx, w.name("quota")))
}

func caseHolds(t *testing.T, w *world) {
	ctx := t.Context()
	fs := w.create(t, "holds")
	s := w.snap(t, fs+"@s")
	require.NoError(t, w.Hold(ctx, s, "two"))
	require.NoError(t, w.Hold(ctx, s, "one"))
	require.ErrorIs(t, w.Hold(ctx, s, "one"), ErrExists)
	tags, err := w.Holds(ctx, s)
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two"}, tags)
	require.ErrorIs(t, w.DestroySnapshots(ctx, false, s), ErrBusy)
	require.NoError(t, w.Release(ctx, s, "one"))
	require.ErrorIs(t, w.Release(ctx, s, "one"), ErrNotFound)
	require.NoError(t, w.DestroySnapshots(ctx, true, s))
	require.NoError(t, w.Release(ctx, s, "two"))
	_, err = w.Stat(ctx, s)
	require.ErrorIs(t, err, ErrNotFound, "the last hold let it go")
	require.ErrorIs(t, w.Hold(ctx, s, ""), ErrInvalid)
	require.NoError(t, w.Destroy(ctx, fs))
}

// disturbed gives this thread signals all the time, as Go's scheduler now and then, until what it returns is called.
func disturbed() (end func()) {
	runtime.LockOSThread()
	thread, stop := unix.Gettid(), make(chan struct{})
	var senders sync.WaitGroup
	senders.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_ = unix.Tgkill(unix.Getpid(), thread, unix.SIGURG)
			}
		}
	})
	return func() {
		close(stop)
		senders.Wait()
		runtime.UnlockOSThread()
	}
}

// caseSignals: a thread that gets signals all the time destroys its snapshots all the same, sends and receives.
func caseSignals(t *testing.T, w *world) {
	fs := w.create(t, "signals")
	w.in(t, fs, false, func(dir string) { fill(t, filepath.Join(dir, "f"), 16<<20) })
	s := w.snap(t, fs+"@s")
	defer disturbed()()
	for range 5 {
		require.NoError(t, w.DestroySnapshots(t.Context(), false, w.snap(t, fs+"@a"), w.snap(t, fs+"@b")))
	}
	var stream bytes.Buffer
	require.NoError(t, w.Send(t.Context(), &stream, SendOptions{Snapshot: s}))
	require.NoError(t, w.Receive(t.Context(), &stream, ReceiveOptions{Snapshot: w.name("received@s")}))
	for _, got := range []string{"received", "signals"} {
		require.NoError(t, w.DestroySnapshots(t.Context(), false, w.name(got+"@s")))
		require.NoError(t, w.Destroy(t.Context(), w.name(got)))
	}
}

func caseRollback(t *testing.T, w *world) {
	ctx := t.Context()
	fs := w.create(t, "rollback")
	s := w.snap(t, fs+"@s")
	w.in(t, fs, false, func(dir string) { fill(t, filepath.Join(dir, "f"), 1<<20) })
	require.NoError(t, w.Rollback(ctx, s))
	w.in(t, fs, false, func(dir string) {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries)
	})
	later := w.snap(t, fs+"@later")
	require.ErrorIs(t, w.Rollback(ctx, s), ErrDependents)
	require.NoError(t, w.DestroySnapshots(ctx, false, s, later))
	require.NoError(t, w.Destroy(ctx, fs))
}

func casePromote(t *testing.T, w *world) {
	ctx := t.Context()
	fs, clone := w.create(t, "promote"), w.name("promoted")
	s := w.snap(t, fs+"@s")
	require.NoError(t, w.Clone(ctx, s, clone, nil))
	w.snap(t, clone+"@s")
	require.ErrorIs(t, w.Promote(ctx, clone), ErrExists)
	require.NoError(t, w.DestroySnapshots(ctx, false, clone+"@s"))
	require.NoError(t, w.Promote(ctx, clone))
	d, err := w.Stat(ctx, fs)
	require.NoError(t, err)
	require.Equal(t, clone+"@s", d.Origin)
	require.NoError(t, w.Destroy(ctx, fs))
	require.NoError(t, w.DestroySnapshots(ctx, false, clone+"@s"))
	require.NoError(t, w.Destroy(ctx, clone))
}

func caseStreams(t *testing.T, w *world) {
	ctx := t.Context()
	fs := w.create(t, "stream")
	w.in(t, fs, false, func(dir string) { fill(t, filepath.Join(dir, "f"), 3<<20) })
	one := w.snap(t, fs+"@one")
	w.in(t, fs, false, func(dir string) { require.NoError(t, os.WriteFile(filepath.Join(dir, "g"), []byte("later"), 0o600)) })
	two := w.snap(t, fs+"@two")
	var whole, rest bytes.Buffer
	require.NoError(t, w.Send(ctx, &whole, SendOptions{Snapshot: one}))
	require.NoError(t, w.Send(ctx, &rest, SendOptions{Snapshot: two, From: one}))
	require.Greater(t, whole.Len(), 3<<20)
	require.Less(t, rest.Len(), 1<<20)
	raw := whole.Bytes()
	require.NoError(t, w.Receive(ctx, bytes.NewReader(raw), ReceiveOptions{Snapshot: w.name("got@one")}))
	require.NoError(t, w.Receive(ctx, bytes.NewReader(rest.Bytes()), ReceiveOptions{Snapshot: w.name("got@two")}))
	a, err := w.Stat(ctx, two)
	require.NoError(t, err)
	b, err := w.Stat(ctx, w.name("got@two"))
	require.NoError(t, err)
	require.Equal(t, a.GUID, b.GUID, "the same snapshot")
	w.in(t, w.name("got"), false, func(dir string) {
		text, err := os.ReadFile(filepath.Join(dir, "g"))
		require.NoError(t, err)
		require.Equal(t, "later", string(text))
	})
	require.NoError(t, w.Receive(ctx, bytes.NewReader(rest.Bytes()), ReceiveOptions{
		Snapshot: w.name("cloned@two"), Origin: w.name("got@one"),
	}))
	cloned, err := w.Stat(ctx, w.name("cloned"))
	require.NoError(t, err)
	require.Equal(t, w.name("got@one"), cloned.Origin)
	require.ErrorIs(t, w.Receive(ctx, bytes.NewReader(raw), ReceiveOptions{Snapshot: w.name("got@one")}), ErrExists)
	for _, name := range []string{"cloned", "got", "stream"} {
		require.NoError(t, w.DestroySnapshots(ctx, false, w.name(name+"@one"), w.name(name+"@two")))
		require.NoError(t, w.Destroy(ctx, w.name(name)))
	}
}

// A failing writer ends a transfer.
type failing struct{ after int }

func (f *failing) Write(b []byte) (int, error) {
	if f.after -= len(b); f.after < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

func caseBrokenStreams(t *testing.T, w *world) {
	ctx := t.Context()
	fs := w.create(t, "broken")
	w.in(t, fs, false, func(dir string) { fill(t, filepath.Join(dir, "f"), 3<<20) })
	s := w.snap(t, fs+"@s")
	require.ErrorIs(t, w.Send(ctx, &failing{after: 1 << 20}, SendOptions{Snapshot: s}), io.ErrShortWrite)
	var whole bytes.Buffer
	require.NoError(t, w.Send(ctx, &whole, SendOptions{Snapshot: s}))
	for _, n := range []int{0, 10, 312, 1000, whole.Len() / 2, whole.Len() - 1} {
		err := w.Receive(ctx, bytes.NewReader(whole.Bytes()[:n]), ReceiveOptions{Snapshot: w.name("cut@s")})
		require.Error(t, err, "%d bytes", n)
		_, err = w.Stat(ctx, w.name("cut"))
		require.ErrorIs(t, err, ErrNotFound, "%d bytes", n)
	}
	damaged := slices.Clone(whole.Bytes())
	damaged[len(damaged)/2] ^= 0xff
	require.Error(t, w.Receive(ctx, bytes.NewReader(damaged), ReceiveOptions{Snapshot: w.name("cut@s")}))
	noise := bytes.Repeat([]byte("not a stream "), 1000)
	require.Error(t, w.Receive(ctx, bytes.NewReader(noise), ReceiveOptions{Snapshot: w.name("cut@s")}))
	_, err := w.Stat(ctx, w.name("cut"))
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, w.DestroySnapshots(ctx, false, s))
	require.NoError(t, w.Destroy(ctx, fs))
}

func casePool(t *testing.T, w *world) {
	ctx := t.Context()
	pools, err := w.Pools(ctx)
	require.NoError(t, err)
	require.Contains(t, pools, w.pool)
	p, err := w.Pool(ctx, w.pool)
	require.NoError(t, err)
	require.Equal(t, "ONLINE", p.Health)
	require.Equal(t, w.pool, p.Name)
	require.Greater(t, p.Size, Bytes(900<<20))
	require.Equal(t, p.Size, p.Allocated+p.Free)
}

func caseCancelled(t *testing.T, w *world) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, w.Create(ctx, w.name("never"), nil), context.Canceled)
	_, err := w.Stat(t.Context(), w.name("never"))
	require.ErrorIs(t, err, ErrNotFound)
}
