package layertar

import (
	"bytes"
	"context"
	"io"

	"golang.org/x/sys/unix"
)

const (
	// contentBuffer is a multiple of every thin block size in use, so that full buffers
	// cover whole blocks and the pool need neither zero nor copy.
	contentBuffer = 256 << 10
	holeSize      = 4096
)

// zeroPage is only read.
var zeroPage = make([]byte, holeSize)

// writeContent copies size bytes from r to a new file, leaving aligned pages of
// zeros out as holes.
func writeContent(ctx context.Context, fd int, r io.Reader, size int64, buf []byte) error {
	var off, end int64 // end: behind the last byte written
	for off < size {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), size-off)])
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		written, err := writeData(fd, buf[:n], off)
		if err != nil {
			return reason(err, "writing content")
		}
		if written > 0 {
			end = off + written
		}
		off += int64(n)
	}
	if end < size {
		if err := unix.Ftruncate(fd, size); err != nil {
			return reason(err, "setting the file's size")
		}
	}
	return nil
}

// writeData writes the pages of b that are not zero and returns where the last one
// ends in b, 0 if there is none.
func writeData(fd int, b []byte, off int64) (int64, error) {
	last := 0
	for i := 0; i < len(b); {
		start := i
		for i < len(b) && !isZero(page(b, i)) {
			i += len(page(b, i))
		}
		if i > start {
			if err := pwrite(fd, b[start:i], off+int64(start)); err != nil {
				return 0, err
			}
			last = i
		}
		for i < len(b) && isZero(page(b, i)) {
			i += len(page(b, i))
		}
	}
	return int64(last), nil
}

func page(b []byte, i int) []byte { return b[i:min(i+holeSize, len(b))] }

func isZero(p []byte) bool { return p[0] == 0 && bytes.Equal(p, zeroPage[:len(p)]) }

func pwrite(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
