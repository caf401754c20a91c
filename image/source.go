package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"blockstore.dev/blockstore/snapshot"
)

// openMembers opens what the archive is made of: a directory, a tar that can be
// read by offset where it is, or a temporary file with the tar in it.
func openMembers(ctx context.Context, source string, o OpenOptions) (members, error) {
	if source == "-" {
		if o.Stdin == nil {
			return nil, fmt.Errorf("%w: there is no standard input to read the archive from", snapshot.ErrInvalid)
		}
		f, ok := o.Stdin.(*os.File)
		if !ok {
			return spoolTar(ctx, o.Stdin, 0, o)
		}
		return openTar(ctx, f, true, o)
	}
	st, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		root, err := os.OpenRoot(source)
		if err != nil {
			return nil, err
		}
		return dirMembers{root}, nil
	}
	f, err := os.Open(source)
	if err != nil {
		return nil, err
	}
	ms, err := openTar(ctx, f, false, o)
	if t, ok := ms.(*tarMembers); ok && t.file == f {
		return ms, nil
	}
	return ms, errors.Join(err, f.Close())
}

// openTar indexes the tar in f where it is, if it is a regular file that is not
// compressed, or else in a temporary file. keep leaves f open.
func openTar(ctx context.Context, f *os.File, keep bool, o OpenOptions) (members, error) {
	size := int64(0)
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if st.Mode().IsRegular() {
		size = st.Size()
		plain, err := plainAtStart(f)
		if err != nil {
			return nil, err
		}
		if plain {
			t, err := newTarMembers(ctx, f, size)
			if err != nil {
				return nil, err
			}
			t.keep = keep
			return t, nil
		}
	}
	return spoolTar(ctx, f, size, o)
}

// plainAtStart tells whether f is read from its beginning and not compressed.
func plainAtStart(f *os.File) (bool, error) {
	if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != 0 {
		return false, err
	}
	head := make([]byte, tarBlock)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return sniff(head[:n]) == packedNot, nil
}

// spoolTar copies the tar in a stream into a temporary file, decompressed, and
// indexes it there. total is the length of the stream, 0 if it is not known.
func spoolTar(ctx context.Context, stream io.Reader, total int64, o OpenOptions) (_ members, err error) {
	var read atomic.Int64
	u, err := unpack(&countingReader{r: stream, n: &read})
	if err != nil {
		return nil, damaged(err, "", "damaged compression")
	}
	defer func() { err = errors.Join(err, u.Close()) }()
	e := Event{Stage: StageSpool, Total: total}
	f, size, err := spooler{o.SpoolDir, o.SpoolLimit}.spool(ctx, archiveErrors{u}, func(int64) {
		if e.Done = read.Load(); o.Progress != nil {
			o.Progress(e)
		}
	})
	if err != nil {
		return nil, err
	}
	if e.Done, e.Finished = read.Load(), true; o.Progress != nil {
		o.Progress(e)
	}
	t, err := newTarMembers(ctx, f, size)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

// archiveErrors blames the archive for what its decompressor finds.
type archiveErrors struct{ r io.Reader }

func (a archiveErrors) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = damaged(err, "", "damaged compression")
	}
	return n, err
}
