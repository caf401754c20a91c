package drivertest

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// spaceCases are about bytes: counted, and given back.
func spaceCases() []testCase {
	return []testCase{
		{name: "UsageGrows", run: usageGrows},
		{name: "UsageOfLayers", run: usageOfLayers},
		{name: "SpaceComesBack", run: spaceComesBack, own: true},
	}
}

const mib = 1 << 20

func usageGrows(t *testing.T, e *env) {
	const written = 8 * mib
	layer := e.layer("", func(dir string) { e.ok(fill(at(dir, "below"), written)) })
	e.create("c", layer.Name)
	start, all := e.usage("c"), e.referenced("c")
	require.LessOrEqual(t, start.Added, e.f.WriteOverhead, "a container that nothing was written to")
	e.in("c", func(dir string) {
		e.ok(fill(at(dir, "new"), written))
		syncTree(e, dir)
		require.GreaterOrEqual(t, e.referenced("c"), int64(2*written))
	})
	end := e.usage("c")
	require.GreaterOrEqual(t, e.referenced("c"), all+written)
	require.GreaterOrEqual(t, end.Added, start.Added+written*9/10)
	require.LessOrEqual(t, end.Added, written+e.f.WriteOverhead)
	e.in("c", func(dir string) { // what removing a file of a layer below does to usage
		e.ok(os.Remove(at(dir, "below")))
		e.ok(os.Remove(at(dir, "new")))
		syncTree(e, dir)
		require.GreaterOrEqual(t, e.usage("c").Added, int64(0))
	})
	require.GreaterOrEqual(t, e.usage("c").Added, int64(0))
	e.view("v", layer.Name)
	require.Equal(t, snapshot.Usage{Exact: true}, e.usage("v"))
	require.Zero(t, e.referenced("v"))
}

func syncTree(e *env, dir string) {
	e.t.Helper()
	d, err := os.Open(dir)
	e.ok(err)
	defer d.Close()
	e.ok(syncfs(d))
}

func usageOfLayers(t *testing.T, e *env) {
	e.f.needs(t, ExclusiveUsage)
	const written = 6 * mib
	one := e.layer("", func(dir string) { e.ok(fill(at(dir, "one"), written)) })
	two := e.layer(one.Name, func(dir string) { e.ok(fill(at(dir, "two"), written)) })
	im := e.load(makeTar(item{name: "f", body: string(noise(3, written))}))
	loaded, err := e.s.Stat(e.ctx(), im.Layers[0])
	require.NoError(t, err)
	for _, in := range []snapshot.Info{one, two, loaded} {
		require.GreaterOrEqual(t, in.Usage.Added, int64(written*9/10), "layer %s", in.Name)
		require.LessOrEqual(t, in.Usage.Added, written+e.f.WriteOverhead, "layer %s", in.Name)
	}
}

// spaceComesBack writes, removes, and compares the backing store's used space
// and, if it has backing files, their allocation on the host.
func spaceComesBack(t *testing.T, e *env) {
	e.f.needs(t, SpaceBack)
	settle := func() int64 { // allocation of files below the root, after all work is done
		e.reopen()
		return allocated(e, e.root)
	}
	host, before := settle(), e.used()
	const written = 48 * mib
	layer := e.layer("", func(dir string) { e.ok(fill(at(dir, "f"), written/2)) })
	e.create("c", layer.Name)
	e.in("c", func(dir string) { e.ok(fill(at(dir, "g"), written/2)) })
	require.GreaterOrEqual(t, e.used(), before+written*9/10, "used space after writing")
	if e.f.Unsupported[BackingFiles] == "" {
		require.GreaterOrEqual(t, settle(), host+written*9/10, "the host's blocks after writing")
	}
	e.remove("c", layer.Name)
	waitFor(t, "space to come back", func() bool { return e.used() <= before+e.f.SpaceSlack })
	if tr, ok := e.s.Driver().(snapshot.Trimmer); ok {
		n, err := tr.Trim(e.ctx())
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, int64(0))
	}
	after := settle()
	require.LessOrEqual(t, after, host+2*e.f.SpaceSlack, "the host's blocks after removal")
}
