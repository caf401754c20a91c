package layertar

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
)

// Split reads a layer tar to its end without unpacking it and writes its split
// data, for [Assemble] with a tree that holds the layer already. It is for tars
// that [Diff] wrote: they have neither sparse entries nor content in whiteouts.
func Split(ctx context.Context, r io.Reader, split io.Writer) error {
	sw, err := newSplitWriter(split)
	if err != nil {
		return err
	}
	rec := &recorder{src: r, split: sw}
	if err := splitEntries(ctx, rec); err != nil {
		return fmt.Errorf("splitting layer: %w", err)
	}
	return sw.close()
}

func splitEntries(ctx context.Context, rec *recorder) error {
	entries := tar.NewReader(rec)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		hdr, err := entries.Next()
		if err == io.EOF {
			_, err := io.Copy(io.Discard, rec) // padding behind the trailer
			return err
		}
		if err != nil {
			return err
		}
		if hdr.Size == 0 {
			continue
		}
		rec.beginContent()
		if _, err := io.Copy(io.Discard, entries); err != nil {
			return err
		}
		if err := rec.endContent(hdr.Name, hdr.Size); err != nil {
			return err
		}
	}
}
