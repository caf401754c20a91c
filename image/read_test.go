package image

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// zooForms makes one image in every form and with every compression of layers.
func zooForms(t testing.TB, z zooImage) map[string][]zooFile {
	forms := map[string][]zooFile{}
	for name, pack := range packers {
		forms["docker/"+name] = dockerFiles(t, pack, z)
		forms["v1/"+name] = v1Files(t, pack, z)
		forms["both/"+name] = append(v1Files(t, pack, z), dockerFiles(t, pack, z)...)
		l := newLayout(t)
		forms["oci/"+name] = l.index(l.image(name, z).named("debian:12"))
		l = newLayout(t)
		forms["index/"+name] = l.index(l.nested(l.image(name, z).on("linux/" + hostPlatform().Architecture)).named("debian:12"))
	}
	return forms
}

func TestEveryFormGivesTheSameLayers(t *testing.T) {
	z := threeLayers(t)
	chain := identity.ChainID(z.diffIDs()).String()
	for form, files := range zooForms(t, z) {
		for outer, pack := range packers {
			t.Run(form+"/in/"+outer, func(t *testing.T) {
				archive := pack(t, tarOf(t, files...))
				for _, from := range []string{"file", "stdin"} {
					s, source, o := newFakeStore(), writeFile(t, archive), OpenOptions{}
					if from == "stdin" {
						source, o.Stdin = "-", io.MultiReader(bytes.NewReader(archive))
					}
					loaded := mustLoad(t, s, source, o)
					require.Len(t, loaded, 1)
					require.Equal(t, chain, loaded[0].Layers[2])
					require.Equal(t, []string{"debian:12"}, loaded[0].Refs)
					require.Equal(t, []string{"debian:12"}, loaded[0].Names)
					require.Equal(t, someTime, loaded[0].Created)
					require.Equal(t, 3, loaded[0].NewLayers)
					if form[:2] != "v1" {
						require.Equal(t, digest.FromBytes(z.config(t)), loaded[0].ID)
					}
				}
			})
		}
	}
}

func TestDirectory(t *testing.T) {
	z := threeLayers(t)
	l := newLayout(t)
	dir := writeDir(t, l.index(l.image("zstd", z).named("bookworm")))
	s := newFakeStore()
	loaded := mustLoad(t, s, dir, OpenOptions{})
	require.Equal(t, []string{"pg:bookworm"}, loaded[0].Refs, "a bare tag goes behind the directory's name")
	before := s.opened
	again := mustLoad(t, s, dir, OpenOptions{})
	require.Equal(t, before, s.opened, "no layer is read twice")
	require.Equal(t, 0, again[0].NewLayers)

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 3, "nothing is written beside the layout")
}

func TestStdinThatIsAFileIsNotSpooled(t *testing.T) {
	z := threeLayers(t)
	f, err := os.Open(writeFile(t, tarOf(t, dockerFiles(t, packers["gzip"], z)...)))
	require.NoError(t, err)
	defer f.Close()
	loaded := mustLoad(t, newFakeStore(), "-", OpenOptions{Stdin: f, SpoolDir: "/nonexistent"})
	require.Len(t, loaded, 1)
	_, err = f.Stat()
	require.NoError(t, err, "the caller's file stays open")
}

func TestBzip2(t *testing.T) {
	s := newFakeStore()
	loaded := mustLoad(t, s, "testdata/docker.tar.bz2", OpenOptions{})
	require.Equal(t, []string{"bz:2"}, loaded[0].Refs)
}

func TestSeveralImages(t *testing.T) {
	a := zooImage{layers: [][]byte{zooLayer(t, "a"), zooLayer(t, "b")}, refs: []string{"a:1", "docker.io/library/a:2"}}
	b := zooImage{layers: [][]byte{zooLayer(t, "a"), zooLayer(t, "c")}, refs: []string{"localhost:5000/b:1"}}
	c := zooImage{layers: [][]byte{zooLayer(t, "a")}, env: "c"}
	s := newFakeStore()
	s.tag(digest.FromString("old"), "a:1")
	archive, err := Open(context.Background(), writeFile(t, tarOf(t, dockerFiles(t, packers["gzip"], a, b, c)...)), OpenOptions{})
	require.NoError(t, err)
	defer archive.Close()
	shown := map[string]bool{}
	loaded, err := Load(context.Background(), s, archive, LoadOptions{Progress: func(e Event) { shown[e.Image] = true }})
	require.NoError(t, err)
	require.True(t, shown["a:1"] && shown["localhost:5000/b:1"] && shown[archive.Images()[2].ID.String()], "people know images by name")
	require.Len(t, loaded, 3)
	require.Equal(t, []string{"a:1", "a:2"}, loaded[0].Refs)
	require.Equal(t, []string{"localhost:5000/b:1"}, loaded[1].Refs)
	require.Empty(t, loaded[2].Refs)
	require.Equal(t, []int{2, 1, 0}, []int{loaded[0].NewLayers, loaded[1].NewLayers, loaded[2].NewLayers})
	require.Equal(t, 3, s.opened, "layers that images share are read once")
	require.Empty(t, s.images[digest.FromString("old")].Refs, "names move")
}

func TestSeveralImagesAreTakenBack(t *testing.T) {
	a := zooImage{layers: [][]byte{zooLayer(t, "a")}, refs: []string{"a:1"}}
	b := zooImage{layers: [][]byte{zooLayer(t, "b")}, refs: []string{"b:1"}}
	files := dockerFiles(t, packers["plain"], a, b)
	for i := range files {
		if bytes.Equal(files[i].data, b.layers[0]) {
			files[i].data = zooLayer(t, "x")
		}
	}
	s := newFakeStore()
	_, err := openAndLoad(t, s, writeFile(t, tarOf(t, files...)), OpenOptions{})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
	require.True(t, s.empty(), "the first image went with the second")

	// What was there before stays.
	mustLoad(t, s, writeFile(t, tarOf(t, dockerFiles(t, packers["plain"], a)...)), OpenOptions{})
	_, err = openAndLoad(t, s, writeFile(t, tarOf(t, files...)), OpenOptions{})
	require.Error(t, err)
	require.Len(t, s.images, 1)
	require.Len(t, s.layers, 1)

	s = newFakeStore()
	s.failTag = "b:1"
	files = dockerFiles(t, packers["plain"], a, b)
	_, err = openAndLoad(t, s, writeFile(t, tarOf(t, files...)), OpenOptions{})
	require.ErrorContains(t, err, "the disk broke")
}

func TestProgress(t *testing.T) {
	z := threeLayers(t)
	archive := gzipped(t, tarOf(t, v1Files(t, packers["gzip"], z)...))
	events := map[Stage][]Event{}
	note := func(e Event) { events[e.Stage] = append(events[e.Stage], e) }
	a, err := Open(context.Background(), writeFile(t, archive), OpenOptions{SpoolDir: t.TempDir(), Progress: note})
	require.NoError(t, err)
	defer a.Close()
	require.Equal(t, FormDockerV1, a.Form())
	_, err = Load(context.Background(), newFakeStore(), a, LoadOptions{Progress: note})
	require.NoError(t, err)

	spool := events[StageSpool]
	require.Equal(t, Event{Stage: StageSpool, Done: int64(len(archive)), Total: int64(len(archive)), Finished: true}, spool[len(spool)-1])
	require.NotEmpty(t, events[StageHash])
	finished := 0
	for _, e := range events[StageUnpack] {
		require.LessOrEqual(t, e.Done, e.Total)
		require.Equal(t, "debian:12", e.Image)
		if e.Finished {
			require.Equal(t, z.diffIDs()[finished], e.DiffID)
			require.Equal(t, e.Total, e.Done)
			finished++
		}
	}
	require.Equal(t, 3, finished)
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	archive := tarOf(t, dockerFiles(t, packers["gzip"], threeLayers(t))...)
	_, err := Open(ctx, writeFile(t, archive), OpenOptions{})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ErrArchive)
	_, err = Open(ctx, "-", OpenOptions{Stdin: bytes.NewReader(archive), SpoolDir: t.TempDir()})
	require.ErrorIs(t, err, context.Canceled)
}

func TestSpoolLimit(t *testing.T) {
	bomb := gzipped(t, make([]byte, 4<<20))
	_, err := Open(context.Background(), writeFile(t, bomb), OpenOptions{SpoolDir: t.TempDir(), SpoolLimit: 1 << 20})
	require.ErrorIs(t, err, snapshot.ErrNoSpace)
}

func TestOpenTellsFilesFromArchives(t *testing.T) {
	_, err := Open(context.Background(), "/nonexistent/x.tar", OpenOptions{})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotErrorIs(t, err, ErrArchive)
	_, err = Open(context.Background(), "-", OpenOptions{})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
	_, err = Open(context.Background(), "x", OpenOptions{Platform: "arm"})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
}

func TestZstdWindowTooLarge(t *testing.T) {
	var blob bytes.Buffer
	w, err := zstd.NewWriter(&blob, zstd.WithWindowSize(2*maxZstdWindow))
	require.NoError(t, err)
	_, err = io.CopyN(w, &endless{}, 3*maxZstdWindow)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	files := dockerFiles(t, packers["plain"], threeLayers(t))
	files[3].data = blob.Bytes()
	s := newFakeStore()
	_, err = openAndLoad(t, s, writeFile(t, tarOf(t, files...)), OpenOptions{})
	require.ErrorIs(t, err, ErrUnsupported)
	require.ErrorContains(t, err, "without --long")
	require.True(t, s.empty())
}
