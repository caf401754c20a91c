package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// packing is a compression as the first bytes of a stream show it. Media types
// and file names are hints that are often wrong (hybrids of Docker 25 declare
// plain tars that a pull left compressed); bytes are not.
type packing string

const (
	packedNot   packing = "plain"
	packedGzip  packing = "gzip"
	packedZstd  packing = "zstd"
	packedBzip2 packing = "bzip2"
	packedXz    packing = "xz"
)

const (
	tarBlock = 512
	// maxZstdWindow bounds the memory of a zstd decoder, of which two may be at work.
	// Level 19 needs 8 MiB, level 20 32 MiB; RFC 8878 asks decoders for 8 MiB.
	maxZstdWindow = 32 << 20
)

// sniff tells the compression from the beginning of a stream, a tar block of it
// if there is as much.
func sniff(head []byte) packing {
	if isTarHeader(head) {
		// A tar whose first name begins with a compressor's magic is still a tar.
		return packedNot
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return packedGzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return packedZstd
	case len(head) >= 4 && binary.LittleEndian.Uint32(head)&^uint32(0xf) == 0x184d2a50:
		return packedZstd // a skippable frame first (RFC 8878, 3.1.2)
	case bytes.HasPrefix(head, []byte("BZh")):
		return packedBzip2
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return packedXz
	}
	return packedNot
}

// isTarHeader tells whether a block has a tar header's checksum: the sum of its
// bytes, with the checksum field taken as spaces (POSIX.1-1988 ustar).
func isTarHeader(block []byte) bool {
	if len(block) < tarBlock || block[0] == 0 {
		return false
	}
	_, err := tar.NewReader(bytes.NewReader(block[:tarBlock])).Next()
	// A header of a special type (PAX, GNU long name) wants more than the block.
	return err == nil || errors.Is(err, io.ErrUnexpectedEOF)
}

// unpacked is a decompressed stream. Close releases the decoder, not what lies
// below it.
type unpacked struct {
	io.Reader
	packing packing
	close   func()
}

func (u *unpacked) Close() error {
	if u.close != nil {
		u.close()
		u.close = nil
	}
	return nil
}

// unpack decompresses a stream as its first bytes ask for. A stream of zstd is
// decoded in the goroutine that reads it, as the others are.
func unpack(r io.Reader) (*unpacked, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(tarBlock)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	u := &unpacked{packing: sniff(head), Reader: b}
	switch u.packing {
	case packedNot:
	case packedGzip:
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		u.Reader = z
	case packedZstd:
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		u.Reader, u.close = zstdErrors{z}, z.Close
	case packedBzip2:
		u.Reader = bzip2.NewReader(b)
	case packedXz:
		return nil, &Error{Kind: ErrUnsupported, Text: "xz is not supported: decompress it first (xz -d), or compress with gzip or zstd"}
	}
	return u, nil
}

// zstdErrors tells a window that is too large from damage.
type zstdErrors struct{ r io.Reader }

func (z zstdErrors) Read(p []byte) (int, error) {
	n, err := z.r.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		err = &Error{Kind: ErrUnsupported, Text: fmt.Sprintf(
			"zstd needs a window of more than %d MiB: compress it again without --long, at level 20 or below", maxZstdWindow>>20), Err: err}
	}
	return n, err
}
