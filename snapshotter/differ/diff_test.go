package differ_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

const uncompressed = "containerd.io/uncompressed"

// changed makes the layer "lower" and the container "c" on it, changed.
func (w *world) changed() (left, right []*types.Mount) {
	w.t.Helper()
	w.layer("lower", lowerTar(w.t))
	right = w.active("c", "lower")
	w.in("c", func(dir string) { change(w.t, dir) })
	return w.view("lower's view", "lower"), right
}

// layer makes a layer of a tar.
func (w *world) layer(name string, tar []byte) {
	w.t.Helper()
	_, err := w.store.Create(w.ctx(), name, snapshot.CreateRequest{})
	require.NoError(w.t, err)
	_, err = w.store.Fill(w.ctx(), name, snapshot.FillRequest{Tar: bytes.NewReader(tar)})
	require.NoError(w.t, err)
}

// TestDiffRoundTrip: whoever unpacks the blob on the lower tree has the upper one.
func TestDiffRoundTrip(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		left, right := w.changed()
		for mediaType, p := range packings {
			made, err := w.diff(&diffapi.DiffRequest{Left: left, Right: right, MediaType: mediaType, Labels: map[string]string{"a": "b"}})
			require.NoError(t, err)
			require.Equal(t, mediaType, made.MediaType)
			layer := p.unpack(t, w.get(made))
			info, err := w.blobs.Info(w.ctx(), digest.Digest(made.Digest))
			require.NoError(t, err)
			require.Equal(t, "b", info.Labels["a"])
			if mediaType == ocispec.MediaTypeImageLayer {
				require.NotContains(t, info.Labels, uncompressed)
			} else {
				require.Equal(t, digest.FromBytes(layer).String(), info.Labels[uncompressed])
			}
			w.in("c", func(dir string) { sameTree(t, dir, theirs(t, lowerTar(t), layer)) })
			_, err = w.apply(made, w.active(mediaType, "lower"))
			require.NoError(t, err)
			w.in("c", func(dir string) { w.in(mediaType, func(again string) { sameTree(t, dir, again) }) })
		}
	})
}

// TestDiffDefaults: gzip, and the whole tree if there is nothing on the left.
func TestDiffDefaults(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, right := w.changed()
		for name, left := range map[string][]*types.Mount{"nothing": nil, "an empty base": w.view("empty", "")} {
			made, err := w.diff(&diffapi.DiffRequest{Left: left, Right: right})
			require.NoError(t, err, name)
			require.Equal(t, ocispec.MediaTypeImageLayerGzip, made.MediaType)
			layer := gunzipped(t, w.get(made))
			w.in("c", func(dir string) { sameTree(t, dir, theirs(t, layer)) })
		}
	})
}

// TestDiffOfLayers: committed snapshots come as views.
func TestDiffOfLayers(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.layer("lower", lowerTar(t))
		_, err := w.store.Create(w.ctx(), "c", snapshot.CreateRequest{Parent: "lower"})
		require.NoError(t, err)
		w.in("c", func(dir string) { change(t, dir) })
		left := w.view("lower's view", "lower")
		w.active("child", "c") // c is a layer from here
		made, err := w.diff(&diffapi.DiffRequest{Left: left, Right: w.view("c's view", "c")})
		require.NoError(t, err)
		layer := gunzipped(t, w.get(made))
		w.in("c", func(dir string) { sameTree(t, dir, theirs(t, lowerTar(t), layer)) })
		none, err := w.diff(&diffapi.DiffRequest{Left: w.mounts("c's view"), Right: w.mounts("child"), MediaType: ocispec.MediaTypeImageLayer})
		require.NoError(t, err)
		require.EqualValues(t, 1024, none.Size, "an empty tar")
	})
}

// TestDiffWhileWritten: a container that others have mounted and write to gives one
// state of each file.
func TestDiffWhileWritten(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		left, right := w.changed()
		target := t.TempDir()
		require.NoError(t, mount.At(mount.Mount{Type: right[0].Type, Source: right[0].Source, Options: right[0].Options}, target))
		defer func() { require.NoError(t, mount.Unmount(target)) }()
		stop, stopped := make(chan struct{}), make(chan error)
		go func() { stopped <- scribble(filepath.Join(target, "log"), stop) }()
		for range 3 {
			made, err := w.diff(&diffapi.DiffRequest{Left: left, Right: right})
			require.NoError(t, err)
			require.NotEmpty(t, names(t, gunzipped(t, w.get(made))))
		}
		close(stop)
		require.NoError(t, <-stopped)
	})
}

// scribble appends to a file until it is told to stop, and begins it anew at times. It
// leaves others some of a machine with one slow processor.
func scribble(name string, stop chan struct{}) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		flag := os.O_APPEND
		if i%100 == 0 {
			flag = os.O_TRUNC
		}
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|flag, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(bytes.Repeat([]byte{byte(i)}, 1000))
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
	}
}

func names(t *testing.T, layer []byte) (all []string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, h.Name)
	}
}

func TestDiffForeign(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		left, right := w.changed()
		for name, ms := range foreign(t, w) {
			_, err := w.diff(&diffapi.DiffRequest{Left: left, Right: ms})
			require.ErrorIs(t, err, errdefs.ErrNotImplemented, name)
			if len(ms) == 0 {
				continue // nothing on the left is the empty tree
			}
			_, err = w.diff(&diffapi.DiffRequest{Left: ms, Right: right})
			require.ErrorIs(t, err, errdefs.ErrNotImplemented, name)
		}
		_, err := w.diff(&diffapi.DiffRequest{Left: left, Right: right, MediaType: "application/vnd.erofs"})
		require.ErrorIs(t, err, errdefs.ErrNotImplemented)
		_, err = w.client.Diff(t.Context(), &diffapi.DiffRequest{Left: left, Right: right})
		require.ErrorIs(t, errgrpc.ToNative(err), errdefs.ErrFailedPrecondition, "a call without a namespace")
	})
}

// TestDiffUnrepresentable: what fails in the middle leaves nothing in containerd.
func TestDiffUnrepresentable(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		left, right := w.changed()
		w.in("c", func(dir string) { require.NoError(t, os.WriteFile(filepath.Join(dir, ".wh.x"), nil, 0o600)) })
		_, err := w.diff(&diffapi.DiffRequest{Left: left, Right: right, Ref: "mine"})
		require.ErrorIs(t, err, errdefs.ErrFailedPrecondition)
		require.ErrorContains(t, err, ".wh.x")
		w.nothingOf(t)
	})
}

// nothingOf sees that a failed diff left neither blobs nor leases.
func (w *world) nothingOf(t *testing.T) {
	t.Helper()
	w.nothingHalf()
	all, err := w.leases.List(w.ctx())
	require.NoError(t, err)
	require.Empty(t, all, "leases")
	require.NoError(t, w.blobs.Walk(w.ctx(), func(i content.Info) error {
		require.NotContains(t, i.Labels, uncompressed, "a blob of a diff")
		return nil
	}))
}

// TestDiffClientVanishes while its blob is being written.
func TestDiffClientVanishes(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		left, right := w.changed()
		w.in("c", func(dir string) { writeLarge(t, filepath.Join(dir, "large"), 64<<20) })
		ctx, cancel := context.WithCancel(w.ctx())
		done := make(chan error, 1)
		go func() {
			_, err := w.client.Diff(ctx, &diffapi.DiffRequest{Left: left, Right: right, Ref: "mine", MediaType: ocispec.MediaTypeImageLayer})
			done <- err
		}()
		require.Eventually(t, func() bool {
			st, err := w.blobs.Status(w.ctx(), "mine")
			return err == nil && st.Offset > 0
		}, time.Minute, time.Millisecond)
		cancel()
		require.ErrorIs(t, errgrpc.ToNative(<-done), context.Canceled)
		require.Eventually(t, func() bool { // the server undoes it in its own time
			half, err := w.blobs.ListStatuses(w.ctx())
			kept, lerr := w.leases.List(w.ctx())
			ids, verr := w.store.Driver().Volumes(w.ctx())
			return errors.Join(err, lerr, verr) == nil && len(half) == 0 && len(kept) == 0 && len(ids) == 2
		}, time.Minute, 10*time.Millisecond)
		w.nothingOf(t)
	})
}

// writeLarge writes what no compression and no hole makes small.
func writeLarge(t *testing.T, name string, size int) {
	t.Helper()
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*i>>7) | 1
	}
	require.NoError(t, os.WriteFile(name, b, 0o600))
}

// TestDiffSameRef: two at once under one name, and one that begins where another
// writer stopped halfway.
func TestDiffSameRef(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		left, right := w.changed()
		half, err := content.OpenWriter(w.ctx(), w.blobs, content.WithRef("mine"))
		require.NoError(t, err)
		_, err = half.Write([]byte("half a blob"))
		require.NoError(t, err)
		require.NoError(t, half.Close())
		var wg sync.WaitGroup
		made := make([]*types.Descriptor, 2)
		errs := make([]error, 2)
		for i := range made {
			wg.Go(func() { made[i], errs[i] = w.diff(&diffapi.DiffRequest{Left: left, Right: right, Ref: "mine"}) })
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		require.Equal(t, made[0].Digest, made[1].Digest)
		require.NotEmpty(t, names(t, gunzipped(t, w.get(made[0]))))
		w.nothingHalf()
	})
}

// TestDiffKnown: a blob that is there without its DiffID is told it.
func TestDiffKnown(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		left, right := w.changed()
		first, err := w.diff(&diffapi.DiffRequest{Left: left, Right: right})
		require.NoError(t, err)
		blob := w.get(first)
		require.NoError(t, w.blobs.Delete(w.ctx(), digest.Digest(first.Digest)))
		w.put(first.MediaType, blob)
		again, err := w.diff(&diffapi.DiffRequest{Left: left, Right: right})
		require.NoError(t, err)
		require.Equal(t, first.Digest, again.Digest)
		info, err := w.blobs.Info(w.ctx(), digest.Digest(again.Digest))
		require.NoError(t, err)
		require.Equal(t, digest.FromBytes(gunzipped(t, blob)).String(), info.Labels[uncompressed])
	})
}

// TestDiffAndGarbage: containerd's collector leaves the blob for a while, or for as
// long as the caller's lease is there.
func TestDiffAndGarbage(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		left, right := w.changed()
		there := func(d *types.Descriptor) bool {
			_, err := w.db.GarbageCollect(w.ctx())
			require.NoError(t, err)
			_, err = w.blobs.Info(w.ctx(), digest.Digest(d.Digest))
			return err == nil
		}
		made, err := w.diff(&diffapi.DiffRequest{Left: left, Right: right})
		require.NoError(t, err)
		require.True(t, there(made))
		all, err := w.leases.List(w.ctx())
		require.NoError(t, err)
		require.Len(t, all, 1)
		end, err := time.Parse(time.RFC3339, all[0].Labels["containerd.io/gc.expire"])
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(time.Hour), end, time.Minute)
		require.NoError(t, w.leases.Delete(w.ctx(), all[0]))
		require.False(t, there(made))

		l, err := w.leases.Create(w.ctx(), leases.WithID("caller's"))
		require.NoError(t, err)
		answer, err := w.client.Diff(leases.WithLease(w.ctx(), l.ID), &diffapi.DiffRequest{Left: left, Right: right})
		require.NoError(t, err)
		require.True(t, there(answer.Diff))
		require.NoError(t, w.leases.Delete(w.ctx(), l))
		require.False(t, there(answer.Diff))
	})
}

func TestDiffSourceDateEpoch(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		left, right := w.changed()
		made, err := w.diff(&diffapi.DiffRequest{Left: left, Right: right, SourceDateEpoch: timestamppb.New(then(3))})
		require.NoError(t, err)
		at := map[string]time.Time{}
		for r := tar.NewReader(bytes.NewReader(gunzipped(t, w.get(made)))); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.False(t, h.ModTime.After(then(3)), h.Name)
			at[h.Name] = h.ModTime
		}
		require.Equal(t, then(3), at["etc/new"].Local())
		require.Zero(t, at["etc/.wh.shadow"].Unix())
	})
}
