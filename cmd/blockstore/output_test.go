package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

const (
	d1 = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	d2 = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	d3 = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

// someStore is two images of three layers, one container and one view.
func someStore() ([]snapshot.Info, []snapshot.Image) {
	exact := func(referenced, added int64) snapshot.Usage {
		return snapshot.Usage{Referenced: referenced, Added: added, Exact: true}
	}
	list := []snapshot.Info{
		{Name: "web", Kind: snapshot.KindContainer, Parent: d2, Usage: exact(310, 10)},
		{Name: d1, Kind: snapshot.KindLayer, DiffID: d1, Usage: exact(100, 100)},
		{Name: d2, Kind: snapshot.KindLayer, Parent: d1, DiffID: d2, Usage: exact(300, 200)},
		{Name: d3, Kind: snapshot.KindLayer, Parent: d1, DiffID: d3, Usage: exact(130, 30)},
		{Name: "look", Kind: snapshot.KindView, Parent: d2},
	}
	images := []snapshot.Image{
		{ID: "sha256:a", Layers: []string{d1, d2}, Refs: []string{"b:1", "a:1"}},
		{ID: d3, Layers: []string{d1, d3}},
	}
	return list, images
}

func TestTree(t *testing.T) {
	list, images := someStore()
	var b bytes.Buffer
	drawTree(&b, []string{"LAYER", "ADDED", "IMAGES"}, treeLeaves(buildTree(list, images), dockerView{}))
	require.Equal(t, strings.TrimLeft(`
LAYER               ADDED   IMAGES
111111111111        100 B
├─222222222222      200 B   a:1, b:1
│ ├─container web   10 B
│ └─view look       0 B
└─333333333333      30 B   333333333333
`, "\n"), b.String())
}

func TestTreeOfADeepChainStaysNarrow(t *testing.T) {
	var list []snapshot.Info
	parent := ""
	for i := range 300 {
		name := "layer-" + strings.Repeat("i", i%7) + string(rune('a'+i%26)) + time.Duration(i).String()
		list = append(list, snapshot.Info{Name: name, Kind: snapshot.KindLayer, Parent: parent})
		parent = name
	}
	list = append(list, snapshot.Info{Name: "web", Kind: snapshot.KindContainer, Parent: parent})
	var b bytes.Buffer
	drawTree(&b, []string{"LAYER", "ADDED", "IMAGES"}, treeLeaves(buildTree(list, nil), dockerView{}))
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	require.Len(t, lines, 302)
	require.Equal(t, "  └─", lines[3][:len("  └─")])
	require.Contains(t, lines[301], "┆ container web")
	for _, l := range lines {
		require.Less(t, len([]rune(l)), 80)
	}
}

func TestCountSpace(t *testing.T) {
	out := countSpace(someStore())
	require.Equal(t, []duRow{
		{Name: d2, Exclusive: 200, Shared: 100, Exact: true, Images: []string{"b:1", "a:1"}},
		{Name: d1, Exclusive: 100, Shared: 0, Exact: true},
		{Name: d3, Exclusive: 30, Shared: 100, Exact: true, Images: []string{d3}},
	}, out.Layers)
	require.Equal(t, []duRow{
		{Name: "b:1", Exclusive: 200, Shared: 100, Exact: true},
		{Name: "333333333333", Exclusive: 30, Shared: 100, Exact: true},
	}, out.Images)
	require.Equal(t, []duRow{{Name: "web", Exclusive: 10, Shared: 300, Exact: true}}, out.Containers)
	require.EqualValues(t, 340, out.Total)
	require.True(t, out.Exact)
}

func TestWriteDUSaysWhatIsNotExact(t *testing.T) {
	list, images := someStore()
	list[0].Usage.Exact = false
	var b bytes.Buffer
	writeDU(&b, countSpace(list, images), dockerView{})
	require.Contains(t, b.String(), "web         ~10 B")
	require.Contains(t, b.String(), "not counted")
}

func TestShort(t *testing.T) {
	require.Equal(t, "111111111111", short(d1))
	require.Equal(t, "debian:12", short("debian:12"))
	require.Equal(t, "sha256:beef", short("sha256:beef"))
	require.Equal(t, "", short(""))
}

func TestSplitRef(t *testing.T) {
	for ref, want := range map[string][2]string{
		"debian:12": {"debian", "12"}, "host:5000/a/b:c": {"host:5000/a/b", "c"}, "host:5000/a": {"host:5000/a", "<none>"},
	} {
		repo, tag := splitRef(ref)
		require.Equal(t, want, [2]string{repo, tag})
	}
}

func TestClip(t *testing.T) {
	require.Equal(t, "a b c", clip(" a\n\tb  c", 9))
	require.Equal(t, "äöü…", clip("äöüßxyz", 4))
}

func TestLinesProgress(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(0, 0)
	l := lines{w: &b, now: func() time.Time { return now }}
	quick := l.Task("quick")
	quick.At(5, 10)
	quick.Done("done")
	slow := l.Task("slow")
	slow.At(1<<20, 0)
	now = now.Add(11 * time.Second)
	slow.At(2<<20, 4<<20)
	slow.At(3<<20, 4<<20)
	slow.Done("done")
	require.Equal(t, "slow: 2.0 MiB of 4.0 MiB\nslow: 3.0 MiB, done\n", b.String())
}

// TestHelp: every verb says what it does and shows how it is used.
func TestHelp(t *testing.T) {
	a, _, _ := fakeApp("ext4")
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if c.HasSubCommands() {
			for _, sub := range c.Commands() {
				visit(sub)
			}
			return
		}
		require.NotEmpty(t, c.Short, c.Name())
		require.Contains(t, c.Example, "blockstore", c.Name())
		require.Equal(t, c.Name(), strings.Fields(c.Use)[0])
	}
	visit(a.rootCommand())
	for _, args := range [][]string{{}, {"help"}, {"--help"}, {"init", "--help"}, {"pool", "extend", "-h"}, {"completion", "bash"}, {"version"}} {
		a, out, errs := fakeApp("ext4")
		require.Equal(t, exitDone, a.run(context.Background(), args), args)
		require.NotEmpty(t, out.String())
		require.Empty(t, errs.String())
	}
}
