package layertar

import (
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
)

// Split reads a layer tar to its end without unpacking it and writes its split
// data, for [Assemble] with a tree that holds the layer already. It is for tars
// that [Diff] wrote.
func Split(ctx context.Context, r io.Reader, split io.Writer) error {
	zw, err := zstd.NewWriter(split, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("starting split data: %w", err)
	}
	stream, err := asm.NewInputTarStream(r, storage.NewJSONPacker(zw), nil)
	if err != nil {
		return fmt.Errorf("splitting the layer tar: %w", err)
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return fmt.Errorf("splitting the layer tar: %w", err)
	}
	if err := zw.Close(); err != nil {
		return fmt.Errorf("writing split data: %w", err)
	}
	return ctx.Err()
}
