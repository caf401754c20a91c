package drivertest

import (
	"archive/tar"
	"bytes"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// lentCases are about snapshots whose mounts others perform.
func lentCases() []testCase {
	return []testCase{
		{name: "Identify", run: identify},
		{name: "IdentifyForeign", run: identifyForeign},
		{name: "Apply", run: applying},
		{name: "ApplyRefuses", run: applyRefuses},
		{name: "CompareInstantLent", run: compareInstantLent},
		{name: "CompareInstantLetsGo", run: compareInstantLetsGo},
	}
}

func (e *env) handedOut(name string) []mount.Mount {
	e.t.Helper()
	ms, err := e.s.Mounts(e.ctx(), name)
	e.ok(err)
	return ms
}

// identified is the name of the snapshot that mounts show, or the error.
func (e *env) identified(ms []mount.Mount) (string, error) {
	in, err := e.s.Identify(e.ctx(), ms)
	return in.Name, err
}

// needsLocator skips a case about mounts that come back.
func (e *env) needsLocator() {
	e.t.Helper()
	if _, ok := e.s.Driver().(snapshot.Locator); !ok {
		e.t.Skip("the driver is no snapshot.Locator: it does not know its mounts again")
	}
}

// identify: mounts that others have performed are known, also by the next process, and so are those that nobody has performed yet: a
// client may have them for as long as it fetches what is to be applied.
func identify(t *testing.T, e *env) {
	e.needsLocator()
	layer := e.load(simpleTar(1)).Layers[0]
	e.create("c", layer)
	e.create("d", layer)
	e.view("view", layer)
	e.view("nothing", "")
	want := map[string]string{"c": "c", "d": "d", "view": layer, "nothing": ""}
	lent := map[string][]mount.Mount{}
	targets := map[string]string{}
	for name := range want {
		lent[name] = e.handedOut(name)
		targets[name] = e.f.Dir(t)
		e.mountAll(lent[name], targets[name])
	}
	e.create("unused", layer)
	want["unused"], lent["unused"] = "unused", e.handedOut("unused")
	for range 2 {
		for name, ms := range lent {
			got, err := e.identified(ms)
			require.NoError(t, err, name)
			require.Equal(t, want[name], got, name)
			readOnly := ms[0]
			readOnly.Options = append([]string{"ro"}, readOnly.Options...)
			got, err = e.identified([]mount.Mount{readOnly})
			require.NoError(t, err, name)
			require.Equal(t, want[name], got, name)
		}
		e.reopen()
	}
	for _, target := range targets {
		e.ok(mount.Unmount(target))
	}
	e.remove("c", "unused")
	for _, name := range []string{"c", "unused"} {
		_, err := e.identified(lent[name])
		require.ErrorIs(t, err, snapshot.ErrNotFound, "it was removed")
	}
}

func identifyForeign(t *testing.T, e *env) {
	e.needsLocator()
	e.create("c", "")
	ms := e.handedOut("c")
	// A directory that has a volume's name and is none.
	twin := e.f.Dir(t) + "/16"
	e.ok(os.Mkdir(twin, 0o700))
	for _, list := range [][]mount.Mount{
		nil,
		{ms[0], ms[0]},
		{{Type: "bind", Source: twin, Options: []string{"rbind"}}},
		{{Type: "bind", Source: "/", Options: []string{"bind"}}},
		{{Type: "bind", Source: "16", Options: []string{"bind"}}},
		{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/a:/b"}}},
		{{Type: ms[0].Type, Source: "/dev/null"}},
		{{Type: ms[0].Type, Source: "/dev/dm-999999"}},
		{{Type: "tmpfs", Source: ms[0].Source}},
	} {
		_, err := e.identified(list)
		require.ErrorIs(t, err, snapshot.ErrNotFound, "%v", list)
	}
	e.ok(os.Remove(twin))
}

// applying unpacks into a container that somebody has mounted, layer upon layer.
func applying(t *testing.T, e *env) {
	e.create("c", e.load(simpleTar(1)).Layers[0])
	target := e.f.Dir(t)
	e.mountAll(e.handedOut("c"), target)
	layer := makeTar(item{name: ".wh.layer-1"}, item{name: "new", body: "12345"})
	done, err := e.s.Apply(e.ctx(), "c", snapshot.FillRequest{Tar: bytes.NewReader(layer)})
	e.ok(err)
	require.Equal(t, digest.FromBytes(layer), done.DiffID)
	require.Equal(t, "12345", e.read(target, "new"))
	e.missing(target, "layer-1")
	e.write(target, "more", "is still possible")
	e.ok(mount.Unmount(target))
	require.Equal(t, snapshot.KindContainer, e.kind("c"))
	e.reopen()
	e.in("c", func(dir string) { require.Equal(t, "is still possible", e.read(dir, "more")) })
}

func applyRefuses(t *testing.T, e *env) {
	layer := e.load(simpleTar(1)).Layers[0]
	e.create("c", "")
	e.view("view", layer)
	for _, name := range []string{layer, "view"} {
		_, err := e.s.Apply(e.ctx(), name, snapshot.FillRequest{Tar: bytes.NewReader(simpleTar(2))})
		require.ErrorIs(t, err, snapshot.ErrInvalid, name)
	}
	_, err := e.s.Apply(e.ctx(), "nobody", snapshot.FillRequest{Tar: bytes.NewReader(simpleTar(2))})
	require.ErrorIs(t, err, snapshot.ErrNotFound)
	_, err = e.s.Apply(e.ctx(), "c", snapshot.FillRequest{Tar: bytes.NewReader(simpleTar(2)[:1000])})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
	var huge bytes.Buffer // only says that a terabyte follows
	e.ok(tar.NewWriter(&huge).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 1 << 40}))
	_, err = e.s.Apply(e.ctx(), "c", snapshot.FillRequest{Tar: &huge})
	require.ErrorIs(t, err, snapshot.ErrNoSpace)
	e.remove("c")
}

// compareInstantLent: what others mounted is compared as it was, and nobody has to
// have asked this process for the mounts.
func compareInstantLent(t *testing.T, e *env) {
	layer := e.load(simpleTar(1)).Layers[0]
	e.create("c", layer)
	target := e.f.Dir(t)
	e.mountAll(e.handedOut("c"), target)
	e.reopen()
	e.write(target, "f", "then")
	c, err := e.s.Compare(e.ctx(), snapshot.CompareRequest{Name: "c", Below: layer, Instant: true})
	e.ok(err)
	e.write(target, "f", "now, and longer")
	size, err := c.Size(e.ctx())
	e.ok(err)
	require.EqualValues(t, len("then"), size)
	e.ok(c.Close())
	e.ok(mount.Unmount(target))
	require.ErrorIs(t, os.Remove(target+"/f"), unix.ENOENT)
}

// compareInstantLetsGo: the copy is read on while the container is removed.
func compareInstantLetsGo(t *testing.T, e *env) {
	layer := e.load(simpleTar(1)).Layers[0]
	e.create("c", layer)
	e.in("c", func(dir string) { e.write(dir, "f", "then") })
	c, err := e.s.Compare(e.ctx(), snapshot.CompareRequest{Name: "c", Below: layer, Instant: true})
	e.ok(err)
	e.remove("c")
	all, err := c.Changes(e.ctx())
	e.ok(err)
	require.Equal(t, []string{"/f A"}, changeLines(all))
	e.ok(c.Close())
}
