package differ

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"blockstore.dev/blockstore/snapshot"
)

// packing is the compression of a layer blob.
type packing int

const (
	plain packing = iota
	gzipped
	zstded
)

// Media types of layers that the image specification does not have: Docker's own, and
// those whose content is not to be redistributed.
const (
	dockerLayer      = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeign    = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	ociForeign       = "application/vnd.oci.image.layer.nondistributable.v1.tar"
	maxZstdWindow    = 128 << 20 // of "zstd --long"; a decoder holds it in memory
	beginning        = 4         // bytes by which a compression is known
	readAhead        = 1 << 20   // of a blob: one call of containerd's for each
	dotGzip, dotZstd = ".gzip", ".zstd"
	plusGzip         = "+gzip"
	plusZstd         = "+zstd"
)

// writable is how a blob of a media type is written; "" is what layers have by default.
func writable(mediaType string) (string, packing, error) {
	switch mediaType {
	case "", ocispec.MediaTypeImageLayerGzip:
		return ocispec.MediaTypeImageLayerGzip, gzipped, nil
	case dockerLayer + dotGzip:
		return mediaType, gzipped, nil
	case ocispec.MediaTypeImageLayer, dockerLayer:
		return mediaType, plain, nil
	case ocispec.MediaTypeImageLayerZstd, dockerLayer + dotZstd:
		return mediaType, zstded, nil
	}
	return "", plain, fmt.Errorf("a blob of media type %q: %w", mediaType, errdefs.ErrNotImplemented)
}

// readable refuses media types that are not layer tars. How those are compressed shows
// in their bytes, which media types often contradict.
func readable(mediaType string) error {
	known := []string{
		ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		ociForeign, ociForeign + plusGzip, ociForeign + plusZstd,
		dockerLayer, dockerLayer + dotGzip, dockerLayer + dotZstd,
		dockerForeign, dockerForeign + dotGzip, dockerForeign + dotZstd,
	}
	if slices.Contains(known, mediaType) {
		return nil
	}
	return fmt.Errorf("a blob of media type %q: %w", mediaType, errdefs.ErrNotImplemented)
}

// unpacked is a decompressed stream. Close releases the decoder, not what lies below it.
type unpacked struct {
	io.Reader
	close func()
}

func (u unpacked) Close() {
	if u.close != nil {
		u.close()
	}
}

// unpack decompresses a stream as its first bytes ask for. Damage that is not the
// stream's own error is snapshot.ErrInvalid.
func unpack(r io.Reader) (unpacked, error) {
	below := &watched{r: r}
	b := bufio.NewReaderSize(below, readAhead)
	head, err := b.Peek(beginning)
	if err != nil && !errors.Is(err, io.EOF) {
		return unpacked{}, err
	}
	switch sniff(head) {
	case gzipped:
		z, err := gzip.NewReader(b)
		if err != nil {
			return unpacked{}, below.blame("gzip", err)
		}
		return unpacked{Reader: damage{z, below, "gzip"}}, nil
	case zstded:
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return unpacked{}, below.blame("zstd", err)
		}
		return unpacked{damage{z, below, "zstd"}, z.Close}, nil
	}
	return unpacked{Reader: b}, nil
}

func sniff(head []byte) packing {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzipped
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstded
	case len(head) == beginning && binary.LittleEndian.Uint32(head)&^uint32(0xf) == 0x184d2a50: // a skippable frame first (RFC 8878, 3.1.2)
		return zstded
	}
	return plain
}

// watched remembers a reader's error.
type watched struct {
	r   io.Reader
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// blame says whose error a decoder's is.
func (w *watched) blame(what string, err error) error {
	if w.err != nil {
		return w.err
	}
	return fmt.Errorf("%s: %w: %w", what, snapshot.ErrInvalid, err)
}

// damage is a decoder that tells damage from the errors of the stream below.
type damage struct {
	decoder io.Reader
	below   *watched
	what    string
}

func (d damage) Read(p []byte) (int, error) {
	n, err := d.decoder.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, d.below.blame(d.what, err)
}

// pack compresses what is written to it, until it is closed.
func pack(w io.Writer, p packing) (io.WriteCloser, error) {
	switch p {
	case gzipped:
		return gzip.NewWriter(w), nil
	case zstded:
		return zstd.NewWriter(w)
	}
	return unclosed{w}, nil
}

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }
