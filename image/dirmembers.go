package image

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// dirMembers is a directory. The kernel sees to it that no name, link or race
// leads out of it (os.Root).
type dirMembers struct{ root *os.Root }

func (d dirMembers) open(name string) (*member, error) {
	// Not to hang at a fifo.
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, bad(ErrMissing, name, "is not in the directory")
	case err != nil && leadsOut(err):
		return nil, &Error{Kind: ErrMalformed, Member: name, Text: "cannot be followed inside of the directory", Err: errors.Unwrap(err)}
	case err != nil:
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !st.Mode().IsRegular() {
		return nil, errors.Join(bad(ErrMalformed, name, "is not a regular file"), f.Close())
	}
	return &member{ReaderAt: f, size: st.Size(), name: name, close: f.Close}, nil
}

// names is empty: Docker never wrote its older form as a directory.
func (d dirMembers) names() []string { return nil }

func (d dirMembers) Close() error { return d.root.Close() }

// leadsOut tells the errors of os.Root that blame the tree from those of the file
// system: it refuses a path that leads out with an error that is no errno.
func leadsOut(err error) bool {
	p, ok := errors.AsType[*fs.PathError](err)
	if !ok {
		return false
	}
	_, errno := errors.AsType[unix.Errno](p.Err)
	return !errno || errors.Is(p.Err, unix.ELOOP)
}
