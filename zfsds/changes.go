package zfsds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

// A Change is an object, a file or directory by its inode number, that may differ between two
// snapshots. Objects are compared in blocks of 32: those whose neighbour changed are left out
// where both sides have the same generation and change time.
type Change struct {
	Object uint64
	// Old and New are what it was and is; nil where it did not exist.
	Old, New *Object
}

// Object is a file in a snapshot.
type Object struct {
	// Path is one of its names, from the file system's root: "/a/b". A file with several is
	// shown by one, which need not be that of its change. "" when it has none any more.
	Path string
	// Generation tells two files apart that had the same number one after the other.
	Generation uint64
	Mode       uint32
	Links      uint64
	Changed    time.Time
}

// Changes lists what changed from one snapshot to a later one of the same file system, or of a
// clone of it. A directory changed when a name in it did. Nothing need be mounted. ErrInvalid for
// unrelated snapshots; ErrNotSupported by CLI.
func (h *Handle) Changes(ctx context.Context, from, to string) iter.Seq2[Change, error] {
	return compared(ctx, from, to, h.compare)
}

// Objects are those from the number First to Last.
type Objects struct{ First, Last uint64 }

// Rewritten lists, in order, which objects of a snapshot lie in blocks that were written since an
// earlier one of the same file system, or of that which it is a clone of: all that differ, new ones
// too, and up to 31 neighbours of each. That takes one request, and nothing need be mounted.
// ErrInvalid for unrelated snapshots; ErrNotSupported by CLI.
func (h *Handle) Rewritten(ctx context.Context, from, to string) iter.Seq2[Objects, error] {
	return compared(ctx, from, to, h.rewritten)
}

// compared is what a way of comparing two snapshots yields.
func compared[T any](ctx context.Context, from, to string, compare func(ctx context.Context, from, to string, yield func(T) bool) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := ready(ctx, checkSnapshot(from), checkSnapshot(to))
		more := true
		if err == nil {
			err = compare(ctx, from, to, func(found T) bool {
				more = yield(found, nil)
				return more
			})
			err = failure(opCompare, from+" with "+to, err)
		}
		if err != nil && more {
			var none T
			yield(none, err)
		}
	}
}

// errEnough stops a comparison whose caller has seen enough.
var errEnough = errors.New("enough")

// diff calls each with records of ranges of objects: in use in to, or free there. A comparison that SIGSTOP interrupted begins
// anew, and as snapshots do not change tells first what it has told.
func (k *kernel) diff(ctx context.Context, from, to string, each func(ioctl.ZFSDiffRecord) error) error {
	told, now := 0, 0
	rest := func(r ioctl.ZFSDiffRecord) error {
		if now++; now <= told {
			return nil
		}
		told = now
		return each(r)
	}
	for ; ; now = 0 {
		err := piped(ctx, func(end *os.File) error { return records(end, rest) }, func(end *os.File) error {
			_, _, err := k.do(request{number: ioctl.ZFS_IOC_DIFF, name: to, value: from, fields: func(b *ioctl.ZFSBuffer) {
				b.Cookie = uint64(end.Fd())
			}})
			return err
		}, false)
		switch {
		case errors.Is(err, errEnough):
			return nil
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

// records reads what the module writes to the pipe.
func records(r io.Reader, each func(ioctl.ZFSDiffRecord) error) error {
	raw := make([]byte, 24)
	for {
		if _, err := io.ReadFull(r, raw); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		record, _ := ioctl.ParseZFSDiffRecord(raw)
		switch {
		case record.Type == ioctl.DDR_NONE:
			continue
		case record.Type != ioctl.DDR_FREE && record.Type != ioctl.DDR_INUSE:
			return fmt.Errorf("%w: record of type %d", ErrCorrupt, record.Type)
		case record.First > record.Last:
			return fmt.Errorf("%w: a record of objects %d to %d", ErrCorrupt, record.First, record.Last)
		}
		if err := each(record); err != nil {
			return err
		}
	}
}

func (k *kernel) rewritten(ctx context.Context, from, to string, yield func(Objects) bool) error {
	return k.diff(ctx, from, to, func(r ioctl.ZFSDiffRecord) error {
		if r.Type == ioctl.DDR_INUSE && !yield(Objects{r.First, r.Last}) {
			return errEnough
		}
		return nil
	})
}

func (k *kernel) compare(ctx context.Context, from, to string, yield func(Change) bool) error {
	c := &comparison{kernel: k, from: from, to: to, yield: yield}
	return k.diff(ctx, from, to, func(r ioctl.ZFSDiffRecord) error { return c.objects(ctx, r) })
}

type comparison struct {
	*kernel
	from, to string
	yield    func(Change) bool
}

// objects looks at those of a range.
func (c *comparison) objects(ctx context.Context, record ioctl.ZFSDiffRecord) error {
	object := max(record.First, 1) // 0 is where the others are listed
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if record.Type == ioctl.DDR_FREE { // what is free now may have been something
			next, found, err := c.next(c.from, object)
			if err != nil || !found {
				return err
			}
			object = next
		}
		if object > record.Last {
			return nil
		}
		if err := c.object(object); err != nil {
			return err
		}
		if object == record.Last { // which may be the highest number there is
			return nil
		}
		object++
	}
}

// next is the first object of a snapshot from a number, not 0, on.
func (c *comparison) next(snapshot string, object uint64) (next uint64, found bool, err error) {
	b, _, err := c.do(request{number: ioctl.ZFS_IOC_NEXT_OBJ, name: snapshot, repeat: true, fields: func(b *ioctl.ZFSBuffer) {
		b.Obj = object - 1
	}})
	if err == unix.ESRCH {
		return 0, false, nil
	}
	if err == nil && b.Obj < object {
		err = fmt.Errorf("%w: the object after %d is %d", ErrCorrupt, object-1, b.Obj)
	}
	if err != nil {
		return 0, false, err
	}
	return b.Obj, true, nil
}

func (c *comparison) object(object uint64) error {
	before, err := c.look(c.from, object)
	if err != nil {
		return err
	}
	after, err := c.look(c.to, object)
	if err != nil || before == nil && after == nil {
		return err
	}
	if before != nil && after != nil && before.Generation == after.Generation && before.Changed.Equal(after.Changed) {
		return nil
	}
	if !c.yield(Change{Object: object, Old: before, New: after}) {
		return errEnough
	}
	return nil
}

// look describes an object, nil for what is none or not a file.
func (c *comparison) look(snapshot string, object uint64) (*Object, error) {
	b, _, err := c.do(request{number: ioctl.ZFS_IOC_OBJ_TO_STATS, name: snapshot, repeat: true, fields: func(b *ioctl.ZFSBuffer) {
		b.Obj = object
	}})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EEXIST), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, enotsup):
		return nil, nil
	case errors.Is(err, unix.ESTALE): // unlinked and still open when the snapshot was made
	case err != nil:
		return nil, fmt.Errorf("object %d of %s: %w", object, snapshot, err)
	}
	s := b.Stat
	return &Object{
		Path: ioctl.CString(b.Value[:]), Generation: s.Gen, Mode: uint32(s.Mode), Links: s.Links,
		Changed: time.Unix(int64(s.Ctime[0]), int64(s.Ctime[1])),
	}, nil
}

// enotsup is the kernel's own number, which the module uses for objects that are no files.
const enotsup = unix.Errno(524)
