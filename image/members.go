package image

import (
	"io"
	"path"
	"strings"
)

// members are the files of an archive, read by name and offset. Names are
// relative, clean and divided by slashes. Errors are *Error without a source,
// or of the file system below. It is safe for concurrent use until Close.
type members interface {
	// open finds a file; symbolic links are followed inside the archive only.
	open(name string) (*member, error)
	// names lists every file that might be a document of the older form.
	names() []string
	Close() error
}

// member is an open file of an archive.
type member struct {
	io.ReaderAt
	size int64
	// name is the member's own, after links.
	name string
	// again is set when the archive has several of that name.
	again bool
	close func() error
}

func (m *member) Close() error {
	if m.close == nil {
		return nil
	}
	return m.close()
}

// reader reads the member from its start to its end, and takes a sooner end to be
// damage.
func (m *member) reader() io.Reader {
	return &wholeReader{r: io.NewSectionReader(m, 0, m.size), left: m.size, name: m.name}
}

type wholeReader struct {
	r    io.Reader
	left int64
	name string
}

func (w *wholeReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.left -= int64(n)
	if err == io.EOF && w.left > 0 {
		return n, bad(ErrMalformed, w.name, "cut short: %d bytes are missing at its end", w.left)
	}
	return n, err
}

// cleanName makes the name of a member, or a path that a document tells,
// canonical. Absolute names and those with ".." are refused: nothing in an
// archive may even try to name what is outside of it.
func cleanName(name string) (string, error) {
	switch {
	case name == "":
		return "", bad(ErrMalformed, "", "an empty path")
	case len(name) > 4096:
		return "", bad(ErrMalformed, name, "path of %d bytes", len(name))
	case strings.HasPrefix(name, "/"):
		return "", bad(ErrMalformed, name, "absolute path")
	case strings.Contains(name, "\x00"):
		return "", bad(ErrMalformed, name, "path with a zero byte")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", bad(ErrMalformed, name, "path with \"..\"")
		}
	}
	return path.Clean(name), nil
}
