package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// stocked is a store with an image of three layers, one of one layer that it
// shares, and one without a name.
func stocked(t testing.TB) *fakeStore {
	s := newFakeStore()
	a := threeLayers(t)
	a.refs = []string{"debian:12", "localhost:5000/me/app:v1"}
	b := zooImage{layers: a.layers[:1], refs: []string{"other:12"}, env: "b"}
	c := zooImage{layers: a.layers[:2], env: "c"}
	archive, err := Open(context.Background(), writeFile(t, tarOf(t, dockerFiles(t, packers["plain"], a, b, c)...)), OpenOptions{})
	require.NoError(t, err)
	_, err = Load(context.Background(), s, archive, LoadOptions{})
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	return s
}

func unnamed(t testing.TB, s *fakeStore) snapshot.Image {
	for _, img := range s.images {
		if len(img.Refs) == 0 {
			return img
		}
	}
	t.Fatal("no image without a name")
	return snapshot.Image{}
}

func saved(t testing.TB, s Saver, o SaveOptions, refs ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if o.SpoolDir == "" {
		o.SpoolDir = t.TempDir()
	}
	require.NoError(t, Save(context.Background(), s, refs, &buf, o))
	return buf.Bytes()
}

func TestSaveAndLoadElsewhere(t *testing.T) {
	s := stocked(t)
	id := unnamed(t, s).ID
	refs := []string{"debian:12", "docker.io/library/other:12", "localhost:5000/me/app:v1", id.String()}
	for _, o := range []SaveOptions{
		{},
		{Format: SaveOCI},
		{Format: SaveOCI, Compression: Gzip},
		{Format: SaveOCI, Compression: Zstd},
		{Format: SaveOCIDir},
		{Format: SaveOCIDir, Compression: Zstd},
	} {
		t.Run(string(o.Format)+string(o.Compression), func(t *testing.T) {
			o.SpoolDir = t.TempDir()
			path := filepath.Join(t.TempDir(), "out")
			require.NoError(t, SaveTo(context.Background(), s, refs, path, o))
			again := newFakeStore()
			loaded := mustLoad(t, again, path, OpenOptions{})
			require.Len(t, loaded, 3)
			require.Equal(t, s.images, again.images)
			require.Equal(t, s.layers, again.layers)
			left, err := os.ReadDir(o.SpoolDir)
			require.NoError(t, err)
			require.Empty(t, left)
			left, err = os.ReadDir(filepath.Dir(path))
			require.NoError(t, err)
			require.Len(t, left, 1, "no temporary file beside it")
		})
	}
}

func TestSaveIsDeterministic(t *testing.T) {
	s := stocked(t)
	for _, o := range []SaveOptions{{}, {Format: SaveOCI, Compression: Gzip}, {Format: SaveOCI, Compression: Zstd}} {
		first := saved(t, s, o, "debian:12", "other:12")
		require.Equal(t, first, saved(t, s, o, "debian:12", "other:12"))
	}
}

// TestSavedDockerArchiveInEveryForm reads one archive in each of the ways in
// which Docker's versions do.
func TestSavedDockerArchiveInEveryForm(t *testing.T) {
	s := stocked(t)
	archive := saved(t, s, SaveOptions{}, "debian:12", "other:12")
	for form, hidden := range map[Form][]string{
		FormDocker: {"index.json", "repositories"}, FormOCI: {"manifest.json"}, FormDockerV1: {"manifest.json", "index.json"},
	} {
		path := writeFile(t, refilter(t, archive, hidden))
		a, err := Open(context.Background(), path, OpenOptions{})
		require.NoError(t, err, form)
		require.Equal(t, form, a.Form())
		again := newFakeStore()
		loaded, err := Load(context.Background(), again, a, LoadOptions{})
		require.NoError(t, err, form)
		require.NoError(t, a.Close())
		require.Len(t, loaded, 2)
		for _, l := range loaded {
			original, err := s.Image(context.Background(), l.Refs[0])
			require.NoError(t, err)
			require.Equal(t, original.Layers, l.Layers)
			if form != FormDockerV1 { // whose configs have no history of their own
				require.Equal(t, original.ID, l.ID)
			}
		}
	}
}

// refilter copies a tar without some of its files.
func refilter(t testing.TB, archive []byte, hidden []string) []byte {
	var buf bytes.Buffer
	r, w := tar.NewReader(bytes.NewReader(archive)), tar.NewWriter(&buf)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.False(t, strings.HasPrefix(h.Name, "/"))
		require.Zero(t, h.Uid)
		if bytes.Contains([]byte(strings.Join(hidden, " ")), []byte(h.Name)) {
			continue
		}
		require.NoError(t, w.WriteHeader(h))
		_, err = io.Copy(w, r)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func TestSaveNamesWhatWasAskedFor(t *testing.T) {
	s := stocked(t)
	again := newFakeStore()
	loaded := mustLoad(t, again, writeFile(t, saved(t, s, SaveOptions{}, "debian:12")), OpenOptions{})
	require.Equal(t, []string{"debian:12"}, loaded[0].Refs, "the other name was not asked for")
	id := loaded[0].ID
	loaded = mustLoad(t, newFakeStore(), writeFile(t, saved(t, s, SaveOptions{}, id.Encoded()[:12])), OpenOptions{})
	require.Empty(t, loaded[0].Refs)
	require.Equal(t, id, loaded[0].ID)
}

func TestSaveRefuses(t *testing.T) {
	s := stocked(t)
	ctx := context.Background()
	var buf bytes.Buffer
	require.ErrorIs(t, Save(ctx, s, nil, &buf, SaveOptions{}), snapshot.ErrInvalid)
	require.ErrorIs(t, Save(ctx, s, []string{"nothing"}, &buf, SaveOptions{}), snapshot.ErrNotFound)
	require.ErrorIs(t, Save(ctx, s, []string{"debian:12"}, &buf, SaveOptions{Format: "zip"}), snapshot.ErrInvalid)
	require.ErrorIs(t, Save(ctx, s, []string{"debian:12"}, &buf, SaveOptions{Compression: "xz"}), snapshot.ErrInvalid)
	require.ErrorIs(t, Save(ctx, s, []string{"debian:12"}, &buf, SaveOptions{Compression: Gzip}), snapshot.ErrInvalid)
	require.ErrorIs(t, Save(ctx, s, []string{"debian:12"}, &buf, SaveOptions{Format: SaveOCIDir}), snapshot.ErrInvalid)
	require.Zero(t, buf.Len())

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x"), nil, 0o600))
	require.ErrorIs(t, SaveTo(ctx, s, []string{"debian:12"}, dir, SaveOptions{Format: SaveOCIDir}), snapshot.ErrExists)
	require.Error(t, SaveTo(ctx, s, []string{"debian:12"}, dir, SaveOptions{}))
}

// breaking is a store that fails while it writes a layer, or writes too little.
type breaking struct {
	*fakeStore
	err error
}

func (b breaking) WriteLayer(_ context.Context, _ string, w io.Writer) error {
	_, _ = w.Write(make([]byte, 1000))
	return b.err
}

func TestSaveThatFailsLeavesWhatWasThere(t *testing.T) {
	broken := errors.New("the disk broke")
	for name, err := range map[string]error{"failing": broken, "short": nil} {
		t.Run(name, func(t *testing.T) {
			s := breaking{stocked(t), err}
			dir := t.TempDir()
			path := filepath.Join(dir, "out")
			require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
			got := SaveTo(context.Background(), s, []string{"debian:12"}, path, SaveOptions{})
			require.Error(t, got)
			if err != nil {
				require.ErrorIs(t, got, err)
			}
			data, rerr := os.ReadFile(path)
			require.NoError(t, rerr)
			require.Equal(t, "old", string(data))
			require.Error(t, SaveTo(context.Background(), s, []string{"debian:12"}, filepath.Join(dir, "new"), SaveOptions{Format: SaveOCIDir}))
			left, rerr := os.ReadDir(dir)
			require.NoError(t, rerr)
			require.Len(t, left, 1)
		})
	}
}

func TestSaveReplacesThroughLinksAndSparesDevices(t *testing.T) {
	s := stocked(t)
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	require.NoError(t, os.WriteFile(real, []byte("old"), 0o600))
	require.NoError(t, os.Symlink("real", link))
	require.NoError(t, SaveTo(context.Background(), s, []string{"debian:12"}, link, SaveOptions{}))
	st, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, st.Mode()&fs.ModeSymlink)
	mustLoad(t, newFakeStore(), real, OpenOptions{})

	require.NoError(t, SaveTo(context.Background(), s, []string{"debian:12"}, os.DevNull, SaveOptions{}))
	st, err = os.Stat(os.DevNull)
	require.NoError(t, err)
	require.NotZero(t, st.Mode()&fs.ModeDevice)
}

func TestSaveProgress(t *testing.T) {
	s := stocked(t)
	var finished, known int
	saved(t, s, SaveOptions{Progress: func(e Event) {
		require.Equal(t, StageWrite, e.Stage)
		if e.Finished {
			require.Equal(t, e.Total, e.Done)
			finished++
		}
		if e.Known {
			known++
		}
	}}, "debian:12", "other:12")
	require.Equal(t, 4, finished)
	require.Equal(t, 2, known, "layers are written once")
}
