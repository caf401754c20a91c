package differ

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
)

// messageSize is how much of a blob goes into one message; each is answered before the
// next one is sent.
const messageSize = 1 << 20

// tarOf writes a layer tar.
type tarOf func(context.Context, io.Writer) (layertar.Diffed, error)

func layerOf(c *snapshot.Comparison, o snapshot.TarOptions) tarOf {
	return func(ctx context.Context, w io.Writer) (layertar.Diffed, error) { return c.WriteTar(ctx, w, o) }
}

// writing is a blob on its way into containerd's content store.
type writing struct {
	peer      peer
	ref       string // "" for one of its own
	mediaType string
	packed    packing
	labels    map[string]string
	leased    bool // the caller's lease keeps the blob
	tar       tarOf
}

// do writes the blob and describes it, or leaves nothing of it.
func (w writing) do(ctx context.Context) (made *types.Descriptor, err error) {
	if !w.leased {
		var drop func(context.Context) error
		if ctx, drop, err = w.peer.lease(ctx); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, undo(ctx, drop))
			}
		}()
	}
	if w.ref == "" {
		w.ref = "blockstore-diff-" + uuid.NewString()
	}
	// Waits for another writer of the same name. Its size is given with Commit only.
	to, err := content.OpenWriter(ctx, w.peer.content,
		content.WithRef(w.ref), content.WithDescriptor(ocispec.Descriptor{MediaType: w.mediaType}))
	if err != nil {
		return nil, fmt.Errorf("beginning the blob %q: %w", w.ref, err)
	}
	defer func() {
		if err != nil { // before Close, which lets others begin it
			err = errors.Join(err, undo(ctx, w.abort))
		}
		_ = to.Close() // nothing hangs on it: Commit has ended it, or abort
	}()
	if err := to.Truncate(0); err != nil {
		return nil, fmt.Errorf("beginning the blob %q anew: %w", w.ref, err)
	}
	return w.fill(ctx, to)
}

// undo runs a clean-up, also when the call's own time is over.
func undo(ctx context.Context, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	return do(limited)
}

// abort removes the half blob.
func (w writing) abort(ctx context.Context) error {
	if err := w.peer.content.Abort(ctx, w.ref); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("removing the half blob %q: %w", w.ref, err)
	}
	return nil
}

// fill writes the tar, and commits it.
func (w writing) fill(ctx context.Context, to content.Writer) (*types.Descriptor, error) {
	out := newSink(to)
	z, err := pack(out, w.packed)
	if err != nil {
		return nil, err
	}
	diffed, err := w.tar(ctx, z)
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, err
	}
	if err := out.Flush(); err != nil {
		return nil, err
	}
	labels := maps.Clone(w.labels)
	if w.packed != plain {
		if labels == nil {
			labels = map[string]string{}
		}
		labels[labelUncompressed] = diffed.DiffID.String()
	}
	sum := out.digest()
	err = to.Commit(ctx, out.size, sum, content.WithLabels(labels))
	if errors.Is(err, errdefs.ErrAlreadyExists) {
		err = w.label(ctx, sum, labels)
	}
	if err != nil {
		return nil, fmt.Errorf("entering blob %s: %w", sum, err)
	}
	return &types.Descriptor{MediaType: w.mediaType, Digest: sum.String(), Size: out.size}, nil
}

// label tells a blob that was there before its DiffID, if it does not know it.
func (w writing) label(ctx context.Context, blob digest.Digest, labels map[string]string) error {
	diffID := labels[labelUncompressed]
	if diffID == "" {
		return nil
	}
	info, err := w.peer.content.Info(ctx, blob)
	if err != nil || info.Labels[labelUncompressed] == diffID {
		return err
	}
	info = content.Info{Digest: blob, Labels: map[string]string{labelUncompressed: diffID}}
	_, err = w.peer.content.Update(ctx, info, "labels."+labelUncompressed)
	return err
}

// sink sends a blob in large messages, and knows its size and digest.
type sink struct {
	*bufio.Writer
	sum  digest.Digester
	size int64
}

func newSink(w io.Writer) *sink {
	s := &sink{sum: digest.SHA256.Digester()}
	s.Writer = bufio.NewWriterSize(io.MultiWriter(w, s.sum.Hash(), (*counter)(&s.size)), messageSize)
	return s
}

func (s *sink) digest() digest.Digest { return s.sum.Digest() }

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
