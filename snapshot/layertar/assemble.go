package layertar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/klauspost/compress/zstd"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// Assemble writes the layer tar, byte for byte as [Apply] read it, from its split
// data and root, the tree right after that layer was applied. A file that is missing
// or has other content than the layer had gives [ErrChanged]; part of the tar may be
// written by then.
func Assemble(ctx context.Context, root string, split io.Reader, w io.Writer) error {
	if err := assemble(ctx, root, split, w); err != nil {
		return fmt.Errorf("assembling layer: %w", err)
	}
	return nil
}

// assembler is one run of [Assemble].
type assembler struct {
	ctx  context.Context
	dirs *dirs
	w    io.Writer
	buf  []byte
	crc  contentSum
}

func assemble(ctx context.Context, root string, split io.Reader, w io.Writer) (err error) {
	zr, err := zstd.NewReader(split, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return fmt.Errorf("reading split data: %w", err)
	}
	defer zr.Close()
	ds, err := openDirs(root, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ds.close()) }()
	a := &assembler{ctx: ctx, dirs: ds, w: w, buf: make([]byte, contentBuffer)}

	// The library's own unpacker remembers every name.
	dec := json.NewDecoder(zr)
	for {
		var e storage.Entry
		switch err := dec.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading split data: %w", err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch e.Type {
		case storage.SegmentType:
			if _, err := w.Write(e.Payload); err != nil {
				return fmt.Errorf("writing: %w", err)
			}
		case storage.FileType:
			if e.Size == 0 {
				continue
			}
			if err := a.file(&e); err != nil {
				return fmt.Errorf("file %q: %w", e.GetName(), err)
			}
		default:
			return fmt.Errorf("split data with an entry of unknown type %d", e.Type)
		}
	}
}

// file writes the content of one file and compares size and checksum.
func (a *assembler) file(e *storage.Entry) error {
	fd, err := a.open(e.GetName())
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
		return reason(ErrChanged, "missing")
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != e.Size {
		return reason(ErrChanged, fmt.Sprintf("not a regular file of %d bytes", e.Size))
	}
	a.crc.reset()
	for off := int64(0); off < e.Size; {
		if a.ctx.Err() != nil {
			return context.Cause(a.ctx)
		}
		n, err := pread(fd, a.buf[:min(int64(len(a.buf)), e.Size-off)], off)
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		if n == 0 {
			return reason(ErrChanged, "it shrank")
		}
		a.crc.write(a.buf[:n])
		if _, err := a.w.Write(a.buf[:n]); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		off += int64(n)
	}
	if !bytes.Equal(a.crc.sum(), e.Payload) {
		return reason(ErrChanged, "its checksum differs from the layer's")
	}
	return nil
}

func (a *assembler) open(name string) (int, error) {
	clean, err := cleanName(name)
	if err != nil {
		return -1, err
	}
	d, err := a.dirs.get(path.Dir(clean), false)
	if err != nil {
		return -1, err
	}
	return openFile(d.fd, path.Base(clean))
}

// openFile opens what should be a regular file; O_NONBLOCK keeps it from waiting for a fifo's
// writer.
func openFile(dirfd int, base string) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOATIME|unix.O_CLOEXEC, 0)
		if err == unix.EPERM { // only the owner and root may leave the access time alone
			fd, err = unix.Openat(dirfd, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		}
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func pread(fd int, b []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(fd, b, off)
		if err != unix.EINTR {
			return n, err
		}
	}
}
