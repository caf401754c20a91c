package image

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

const (
	// maxMembers bounds the files of an archive, maxNameBytes their names together:
	// what the index of a hostile archive can take in memory.
	maxMembers   = 100_000
	maxNameBytes = 16 << 20
	// maxLinks is how many links may lead from one to the next.
	maxLinks = 16
)

// tarMembers is a tar that is indexed once and then read by offset.
type tarMembers struct {
	file    *os.File
	keep    bool // the caller's file: not to be closed
	entries map[string]tarEntry
}

type tarEntry struct {
	offset, size int64
	// link is the name that a link leads to; "" is a file.
	link  string
	again bool
}

// newTarMembers indexes the tar in f, which has the given size, and takes f over.
func newTarMembers(ctx context.Context, f *os.File, size int64) (*tarMembers, error) {
	t := &tarMembers{file: f, entries: map[string]tarEntry{}}
	// The tar reader skips over contents by seeking, and reads headers in whole
	// blocks without a buffer of its own: the section's offset is the contents'.
	section := io.NewSectionReader(f, 0, size)
	r := tar.NewReader(section)
	bytes, end := 0, int64(0)
	for count := 0; ; count++ {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			if err := t.checkEnd(end); err != nil {
				return nil, err
			}
			return t, nil
		}
		if err != nil {
			if count == 0 {
				return nil, damaged(err, "", "not a tar archive")
			}
			return nil, damaged(err, "", "damaged tar archive")
		}
		if bytes += len(h.Name) + len(h.Linkname); count >= maxMembers || bytes > maxNameBytes {
			return nil, bad(ErrMalformed, "", "more than %d files, or more than %d bytes of names", maxMembers, maxNameBytes)
		}
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if err := t.add(h, offset); err != nil {
			return nil, err
		}
		end = offset
		if h.Typeflag == tar.TypeReg {
			end += h.Size
		}
		end = (end + tarBlock - 1) / tarBlock * tarBlock
	}
}

// checkEnd looks for the block of zeros that ends a tar (POSIX ustar wants two).
// Without it nothing tells a whole archive of Docker 1.9 from one that is cut
// between two files.
func (t *tarMembers) checkEnd(at int64) error {
	var block [tarBlock]byte
	_, err := t.file.ReadAt(block[:], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err != nil || block != [tarBlock]byte{} {
		return bad(ErrMalformed, "", "cut short: the end of the tar is missing")
	}
	return nil
}

// add takes one header of the outer tar into the index. The last of several files
// with one name counts, as it does for whoever unpacks the archive.
func (t *tarMembers) add(h *tar.Header, offset int64) error {
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeXGlobalHeader:
		if h.Typeflag == tar.TypeDir && h.Name != "/" {
			_, err := cleanName(h.Name)
			return err
		}
		return nil
	case tar.TypeReg, tar.TypeLink, tar.TypeSymlink: // below
	case tar.TypeGNUSparse:
		return bad(ErrUnsupported, h.Name, "sparse file in the outer tar: make the archive without --sparse")
	default:
		return bad(ErrMalformed, h.Name, "entry of type %q in the outer tar", h.Typeflag)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return bad(ErrUnsupported, h.Name, "sparse file in the outer tar: make the archive without --sparse")
		}
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	e := tarEntry{offset: offset, size: h.Size}
	switch h.Typeflag {
	case tar.TypeSymlink:
		e.link, err = linkTarget(path.Dir(name), h.Linkname)
	case tar.TypeLink:
		e.link, err = cleanName(h.Linkname)
	}
	if err != nil {
		return blame(err, "", name)
	}
	_, e.again = t.entries[name]
	t.entries[name] = e
	return nil
}

// linkTarget is where a symbolic link in dir leads. Docker 1.10 to 24 writes a
// layer that appears twice as a link to ../OTHER/layer.tar, so ".." is allowed as
// long as it stays inside.
func linkTarget(dir, target string) (string, error) {
	name := path.Join(dir, target)
	if target == "" || path.IsAbs(target) || name == ".." || strings.HasPrefix(name, "../") {
		return "", bad(ErrMalformed, "", "link to %s leads out of the archive", printable(target))
	}
	return cleanName(name)
}

func (t *tarMembers) open(name string) (*member, error) {
	at := name
	for range maxLinks {
		e, ok := t.entries[at]
		switch {
		case !ok && at == name:
			return nil, bad(ErrMissing, name, "is not in the archive")
		case !ok:
			return nil, bad(ErrMissing, name, "links to %s, which is not in the archive", printable(at))
		case e.link == "":
			return &member{ReaderAt: io.NewSectionReader(t.file, e.offset, e.size), size: e.size, name: at, again: e.again}, nil
		}
		at = e.link
	}
	return nil, bad(ErrMalformed, name, "loop of links")
}

func (t *tarMembers) names() []string {
	names := make([]string, 0, len(t.entries))
	for name := range t.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (t *tarMembers) Close() error {
	if t.keep {
		return nil
	}
	return t.file.Close()
}
