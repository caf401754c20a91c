package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

const copyBuffer = 1 << 20

// tempFile makes a file without a name in dir: it is gone with its descriptor,
// whatever happens to the process. File systems without O_TMPFILE (open(2)) get a
// file that is unlinked at once.
func tempFile(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir+"/(unnamed)"), nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.ENOSYS) {
		return nil, &fs.PathError{Op: "make a temporary file in", Path: dir, Err: err}
	}
	f, err := os.CreateTemp(dir, ".blockstore-spool-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// spoolLimit is nine tenths of the space that is free in dir.
func spoolLimit(dir string) (int64, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) / 10 * 9 * st.Bsize, nil
}

// spooler copies streams into temporary files.
type spooler struct {
	dir   string
	limit int64 // 0: nine tenths of what is free
}

// spool copies r into a temporary file and tells its length. progress may be nil.
func (s spooler) spool(ctx context.Context, r io.Reader, progress func(int64)) (_ *os.File, n int64, err error) {
	limit := s.limit
	if limit == 0 {
		if limit, err = spoolLimit(s.dir); err != nil {
			return nil, 0, err
		}
	}
	f, err := tempFile(s.dir)
	if err != nil {
		return nil, 0, err
	}
	n, err = copyBounded(ctx, f, r, limit, progress)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("spooling into a temporary file: %w", err), f.Close())
	}
	return f, n, nil
}

// copyBounded copies until the end of r, cancellation or the limit.
func copyBounded(ctx context.Context, w io.Writer, r io.Reader, limit int64, progress func(int64)) (int64, error) {
	buf := make([]byte, copyBuffer)
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return n, context.Cause(ctx)
		}
		got, rerr := r.Read(buf)
		if n+int64(got) > limit {
			return n, fmt.Errorf("%w: it is longer than %d bytes, the most that fits; give more room or another directory for temporary files",
				snapshot.ErrNoSpace, limit)
		}
		if _, err := w.Write(buf[:got]); err != nil {
			return n, noSpace(err)
		}
		n += int64(got)
		if progress != nil && got > 0 {
			progress(n)
		}
		if errors.Is(rerr, io.EOF) {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

// noSpace makes a full file system snapshot.ErrNoSpace.
func noSpace(err error) error {
	if errors.Is(err, unix.ENOSPC) && !errors.Is(err, snapshot.ErrNoSpace) {
		return fmt.Errorf("%w: %w", snapshot.ErrNoSpace, err)
	}
	return err
}
