package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"blockstore.dev/blockstore/snapshot/layertar"
)

// Changes lists what a container or layer changed over the layer below it,
// sorted by path. Where the driver cannot tell what was written it looks at the
// change time of every file, and at the content of those where it moved. While
// somebody writes to the container each path is told as it was at one moment or another.
func (s *Store) Changes(ctx context.Context, name string) (_ []layertar.Change, err error) {
	c, err := s.compareToParent(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if c.Info.Kind == KindView {
		return nil, nil
	}
	return c.Changes(ctx)
}

func (s *Store) compareToParent(ctx context.Context, name string) (*Comparison, error) {
	in, err := s.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.Compare(ctx, CompareRequest{Name: name, Below: in.Parent})
}

// WriteDiff writes what a container changed as a layer tar. What is written to meanwhile
// gives layertar.ErrChanged: Compare has an Instant. A layer's tar is written by WriteLayer.
func (s *Store) WriteDiff(ctx context.Context, name string, w io.Writer) (_ layertar.Diffed, err error) {
	c, err := s.compareToParent(ctx, name)
	if err != nil {
		return layertar.Diffed{}, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return c.WriteTar(ctx, w, TarOptions{})
}

// WriteLayer writes a layer's tar as it came in, byte for byte. A layer whose
// files or records were damaged ends in ErrCorrupt, after what was written so
// far: the caller must throw that away.
func (s *Store) WriteLayer(ctx context.Context, name string, w io.Writer) (err error) {
	defer s.names.read(name)()
	in, err := s.Stat(ctx, name)
	if err != nil {
		return err
	}
	if in.Kind != KindLayer {
		return fmt.Errorf("%s %q is not a layer: %w", in.Kind, name, ErrInvalid)
	}
	if in.NoTar {
		return fmt.Errorf("layer %q came through a door that keeps what is needed to write its tar: %w", name, ErrNotSupported)
	}
	split, err := os.Open(s.tarPath(in.Volume.ID))
	if err != nil {
		return fmt.Errorf("layer %s: its tar record is missing: %w: %w", name, ErrCorrupt, err)
	}
	defer split.Close()
	dir, release, err := s.vols.use(ctx, in.Volume)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	sum := in.DiffID.Verifier()
	// Assemble's errors are of two kinds: the store's content is damaged, or w failed.
	out := &watchedWriter{w: io.MultiWriter(w, sum)}
	if err := layertar.Assemble(ctx, dir, split, out); err != nil {
		if out.err != nil || ctx.Err() != nil {
			return fmt.Errorf("writing layer %s: %w", name, noSpace(err))
		}
		return fmt.Errorf("layer %s: %w: %w", name, ErrCorrupt, err)
	}
	if !sum.Verified() {
		return fmt.Errorf("layer %s: what is stored has not its digest %s any more: %w", name, in.DiffID, ErrCorrupt)
	}
	return nil
}

// watchedWriter remembers whether it was the writer that failed.
type watchedWriter struct {
	w   io.Writer
	err error
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// Export writes the whole tree of a snapshot as one tar, without whiteouts. A container's is that
// of one instant, by a snapshot of it, or where that cannot be made, as in a full pool, what it holds
// while it is read: then layertar.ErrChanged if somebody writes to it.
func (s *Store) Export(ctx context.Context, name string, w io.Writer) (err error) {
	c, err := s.Compare(ctx, CompareRequest{Name: name, Instant: true})
	if err != nil && ctx.Err() == nil {
		c, err = s.Compare(ctx, CompareRequest{Name: name})
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := c.WriteTar(ctx, w, TarOptions{}); err != nil {
		return fmt.Errorf("exporting %q: %w", name, err)
	}
	return nil
}
