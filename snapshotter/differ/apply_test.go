package differ_test

import (
	"context"
	"testing"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// TestApply: layers of each compression give the tree that containerd's own code
// gives, and its DiffIDs.
func TestApply(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		lower, upper := lowerTar(t), upperTar(t)
		want := theirs(t, lower, upper)
		for mediaType, p := range packings {
			below, name := mediaType+" 1", mediaType+" 2"
			for _, l := range []struct {
				name, parent string
				tar          []byte
			}{{below, "", lower}, {name, below, upper}} {
				ms := w.active(l.name, l.parent)
				applied, err := w.apply(w.put(mediaType, p.pack(t, l.tar)), ms)
				require.NoError(t, err)
				require.Equal(t, ocispec.MediaTypeImageLayer, applied.MediaType)
				require.Equal(t, digest.FromBytes(l.tar).String(), applied.Digest)
				require.EqualValues(t, len(l.tar), applied.Size)
			}
			w.in(name, func(dir string) { sameTree(t, want, dir) })
		}
	})
}

// TestApplyMounted: the client has the snapshot mounted meanwhile, and its mounts
// made read-only.
func TestApplyMounted(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		ms := w.active("a", "")
		target := t.TempDir()
		list := []mount.Mount{{Type: ms[0].Type, Source: ms[0].Source, Options: ms[0].Options}}
		require.NoError(t, mount.All(list, target))
		defer func() { require.NoError(t, mount.Unmount(target)) }()
		ms[0].Options = append(ms[0].Options, "ro")
		_, err := w.apply(w.put(ocispec.MediaTypeImageLayerGzip, gzipped(t, lowerTar(t))), ms)
		require.NoError(t, err)
		sameTree(t, theirs(t, lowerTar(t)), target)
	})
}

func TestApplyHints(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		// Media types are often wrong, and what follows the tar is part of it.
		padded := append(lowerTar(t), make([]byte, 64<<10)...)
		for mediaType, blob := range map[string][]byte{
			ocispec.MediaTypeImageLayer:                                    zstded(t, padded),
			"application/vnd.docker.image.rootfs.diff.tar.gzip":            padded,
			"application/vnd.docker.image.rootfs.foreign.diff.tar":         gzipped(t, padded),
			"application/vnd.docker.image.rootfs.diff.tar":                 append(gzipped(t, padded[:700]), gzipped(t, padded[700:])...),
			"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": zstded(t, padded),
		} {
			applied, err := w.apply(w.put(mediaType, blob), w.active(mediaType, ""))
			require.NoError(t, err, mediaType)
			require.Equal(t, digest.FromBytes(padded).String(), applied.Digest, mediaType)
			require.EqualValues(t, len(padded), applied.Size)
		}
	})
}

func TestApplyRefuses(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		layer := lowerTar(t)
		z := gzipped(t, layer)
		broken := append([]byte(nil), z...)
		broken[len(z)/2] ^= 1
		resized := w.put(ocispec.MediaTypeImageLayer, layer)
		resized.Size++
		missing := &types.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("nothing").String(), Size: 7}
		for name, c := range map[string]struct {
			blob *types.Descriptor
			want error
		}{
			"half a tar":           {w.put(ocispec.MediaTypeImageLayer, layer[:2000]), errdefs.ErrInvalidArgument},
			"half a gzip":          {w.put(ocispec.MediaTypeImageLayerGzip, z[:len(z)/2]), errdefs.ErrInvalidArgument},
			"a flipped bit":        {w.put(ocispec.MediaTypeImageLayerGzip, broken), errdefs.ErrInvalidArgument},
			"half a zstd":          {w.put(ocispec.MediaTypeImageLayerZstd, zstded(t, layer)[:100]), errdefs.ErrInvalidArgument},
			"text":                 {w.put(ocispec.MediaTypeImageLayer, []byte("this is not a tar")), errdefs.ErrInvalidArgument},
			"garbage at the end":   {w.put(ocispec.MediaTypeImageLayerGzip, append(z[:len(z):len(z)], "garbage"...)), errdefs.ErrInvalidArgument},
			"another size":         {resized, errdefs.ErrInvalidArgument},
			"another digest":       {missing, errdefs.ErrNotFound},
			"no digest":            {&types.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: "x"}, errdefs.ErrInvalidArgument},
			"nothing":              {nil, errdefs.ErrInvalidArgument},
			"a config":             {w.put(ocispec.MediaTypeImageConfig, []byte("{}")), errdefs.ErrNotImplemented},
			"an encrypted layer":   {w.put(ocispec.MediaTypeImageLayerGzip+"+encrypted", z), errdefs.ErrNotImplemented},
			"what no volume takes": {w.put(ocispec.MediaTypeImageLayer, hugeTar(t)), errdefs.ErrResourceExhausted},
		} {
			t.Run(name, func(t *testing.T) {
				_, err := w.apply(c.blob, w.active(name, ""))
				require.ErrorIs(t, err, c.want)
				require.NoError(t, w.store.Remove(w.ctx(), name), "the client can remove it at once")
			})
		}
	})
}

func TestApplyForeign(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		blob := w.put(ocispec.MediaTypeImageLayer, lowerTar(t))
		ms := w.active("a", "")
		inner := &types.Mount{Type: ms[0].Type, Source: ms[0].Source, Options: ms[0].Options, Target: "sub"}
		mappedTo := &types.Mount{Type: ms[0].Type, Source: ms[0].Source, Options: []string{"bind", "uidmap=0:1000:1"}}
		for name, list := range foreign(t, w) {
			_, err := w.apply(blob, list)
			require.ErrorIs(t, err, errdefs.ErrNotImplemented, name)
		}
		for _, list := range [][]*types.Mount{{ms[0], ms[0]}, {inner}, {mappedTo}} {
			_, err := w.apply(blob, list)
			require.ErrorIs(t, err, errdefs.ErrNotImplemented)
		}
		w.in("a", func(dir string) { sameTree(t, theirs(t), dir) })
		_, err := w.store.Create(w.ctx(), "b", snapshot.CreateRequest{Parent: "a", FreezeParent: true})
		require.NoError(t, err)
		_, err = w.apply(blob, ms)
		require.ErrorIs(t, err, errdefs.ErrFailedPrecondition, "a is a layer now")
	})
}

// foreign are mounts of others, and of what was removed.
func foreign(t *testing.T, w *world) map[string][]*types.Mount {
	gone := w.active("gone", "")
	require.NoError(t, w.store.Remove(w.ctx(), "gone"))
	return map[string][]*types.Mount{
		"none":         nil,
		"overlay":      {{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/a:/b"}}},
		"a directory":  {{Type: "bind", Source: t.TempDir(), Options: []string{"rbind", "rw"}}},
		"a number":     {{Type: "bind", Source: "/16", Options: []string{"rbind", "rw"}}},
		"their device": {{Type: "ext4", Source: "/dev/null"}},
		"their ext4":   {{Type: "ext4", Source: "/dev/mapper/containerd-pool-snap-16"}},
		"btrfs":        {{Type: "btrfs", Source: "/dev/loop0", Options: []string{"subvolid=256"}}},
		"removed":      gone,
	}
}

func TestApplyCancelled(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		blob := w.put(ocispec.MediaTypeImageLayer, lowerTar(t))
		ms := w.active("a", "")
		ctx, cancel := context.WithCancel(w.ctx())
		cancel()
		_, err := w.client.Apply(ctx, &diffapi.ApplyRequest{Diff: blob, Mounts: ms})
		require.ErrorIs(t, errgrpc.ToNative(err), context.Canceled)
		_, err = w.client.Apply(t.Context(), &diffapi.ApplyRequest{Diff: blob, Mounts: ms})
		require.ErrorIs(t, errgrpc.ToNative(err), errdefs.ErrFailedPrecondition, "a call without a namespace")
		require.NoError(t, w.store.Remove(w.ctx(), "a"))
	})
}
