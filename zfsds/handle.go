package zfsds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"golang.org/x/sys/unix"
)

// Access is a way to speak to ZFS.
type Access string

// The ways.
const (
	// Auto is Ioctl where the module answers as this package expects, else CLI.
	Auto Access = ""
	// Ioctl speaks to /dev/zfs.
	Ioctl Access = "ioctl"
	// CLI runs zfs(8) and zpool(8).
	CLI Access = "cli"
)

// Options are the options of Open.
type Options struct {
	// Access forces a way.
	Access Access
}

// backend is one way to speak to ZFS. Its arguments were checked.
type backend interface {
	create(ctx context.Context, name string, p Properties) error
	clone(ctx context.Context, snapshot, name string, p Properties) error
	snapshot(ctx context.Context, names []string, p Properties) error
	destroy(ctx context.Context, name string) error
	destroySnapshots(ctx context.Context, names []string, deferred bool) error
	rename(ctx context.Context, from, to string) error
	promote(ctx context.Context, name string) error
	rollback(ctx context.Context, snapshot string) error
	set(ctx context.Context, name string, p Properties) error
	inherit(ctx context.Context, name, property string) error
	stat(ctx context.Context, name string) (Dataset, error)
	get(ctx context.Context, name string) (Details, error)
	// list calls yield until it returns false.
	list(ctx context.Context, name string, snapshots bool, yield func(Dataset) bool) error
	writtenSince(ctx context.Context, name, snapshot string) (Bytes, error)
	hold(ctx context.Context, snapshot, tag string) error
	release(ctx context.Context, snapshot, tag string) error
	holds(ctx context.Context, snapshot string) ([]string, error)
	send(ctx context.Context, w io.Writer, o SendOptions) error
	receive(ctx context.Context, r io.Reader, o ReceiveOptions) error
	compare(ctx context.Context, from, to string, yield func(Change) bool) error
	rewritten(ctx context.Context, from, to string, yield func(Objects) bool) error
	sync(ctx context.Context, pool string) error
	pools(ctx context.Context) ([]string, error)
	pool(ctx context.Context, name string) (Pool, error)
	io.Closer
}

// Handle is a way to ZFS. Its methods may be called concurrently, except Close. A context
// that ends stops what has not begun; a request that the kernel works on is waited for.
type Handle struct {
	access Access
	reason string
	backend
}

// Open finds the way. ErrNotSupported where there is no ZFS, with how to get it.
func Open(ctx context.Context, o Options) (*Handle, error) {
	switch o.Access {
	case CLI:
		c, err := openCommands(ctx)
		if err != nil {
			return nil, err
		}
		return &Handle{CLI, "asked for", c}, nil
	case Ioctl:
		k, err := openKernel(ctx)
		if err != nil {
			return nil, err
		}
		return &Handle{Ioctl, "asked for", k}, nil
	case Auto:
		return openAuto(ctx)
	}
	return nil, fmt.Errorf("zfs: %w: access %q: there are %q and %q", ErrInvalid, o.Access, Ioctl, CLI)
}

func openAuto(ctx context.Context) (*Handle, error) {
	k, kernelErr := openKernel(ctx)
	if kernelErr == nil {
		return &Handle{Ioctl, "the module answers as expected", k}, nil
	}
	if errors.Is(kernelErr, errNoModule) {
		return nil, kernelErr
	}
	c, err := openCommands(ctx)
	if err != nil {
		return nil, errors.Join(kernelErr, err)
	}
	return &Handle{CLI, kernelErr.Error(), c}, nil
}

// Access tells which way is taken, and why.
func (h *Handle) Access() (way Access, reason string) { return h.access, h.reason }

// Close gives the way up. Datasets stay as they are.
func (h *Handle) Close() error { return h.backend.Close() }

// ready is the first thing that a call does.
func ready(ctx context.Context, checks ...error) error {
	return errors.Join(append([]error{ctx.Err()}, checks...)...)
}

// Create makes a file system, whose parent exists. It is not mounted. ErrExists, ErrNotFound
// (the parent), ErrNoSpace, ErrNoKey.
func (h *Handle) Create(ctx context.Context, name string, p Properties) error {
	if err := ready(ctx, checkDataset(name), p.check()); err != nil {
		return err
	}
	return failure(opCreate, name, h.create(ctx, name, p))
}

// Clone makes a file system of what a snapshot holds. Properties that p does not set come from
// the parent of the new name, not from the origin.
func (h *Handle) Clone(ctx context.Context, snapshot, name string, p Properties) error {
	if err := ready(ctx, checkSnapshot(snapshot), checkDataset(name), p.check()); err != nil {
		return err
	}
	return failure(opClone, snapshot+" as "+name, h.clone(ctx, snapshot, name, p))
}

// Snapshot makes snapshots at one instant, all or none. They lie in one pool, and each in
// another dataset. p are user properties of all of them.
func (h *Handle) Snapshot(ctx context.Context, p Properties, names ...string) error {
	if err := ready(ctx, checkSnapshots(names), p.check()); err != nil || len(names) == 0 {
		return err
	}
	return failure(opSnapshot, some(names), h.snapshot(ctx, names, p))
}

// Destroy destroys a file system or volume. ErrDependents when it has children or snapshots:
// they go first. ErrBusy when it is mounted anywhere.
func (h *Handle) Destroy(ctx context.Context, name string) error {
	if err := ready(ctx, checkDataset(name)); err != nil {
		return err
	}
	err := h.destroy(ctx, name)
	if errors.Is(err, unix.EBUSY) && h.hasSnapshots(ctx, name) {
		return fmt.Errorf("zfs: destroy %s: %w: it has snapshots (%w)", name, ErrDependents, err)
	}
	return failure(opDestroy, name, err)
}

// hasSnapshots tells the two meanings of the kernel's EBUSY apart.
func (h *Handle) hasSnapshots(ctx context.Context, name string) bool {
	var found bool
	_ = h.list(ctx, name, true, func(Dataset) bool { found = true; return false })
	return found
}

// snapshotBatch bounds how many snapshots one request destroys: it holds up all others of
// the pool meanwhile.
const snapshotBatch = 100

// DestroySnapshots destroys snapshots of one pool; those that do not exist are destroyed
// already. With deferred, a snapshot that has clones or holds stays until the last of them
// goes and then vanishes; without, it is ErrDependents or ErrBusy, and of its batch of a
// hundred none is destroyed. One that is mounted is ErrBusy either way.
func (h *Handle) DestroySnapshots(ctx context.Context, deferred bool, names ...string) error {
	if err := ready(ctx, checkSnapshots(names)); err != nil {
		return err
	}
	for len(names) > 0 {
		batch := names[:min(snapshotBatch, len(names))]
		names = names[len(batch):]
		if err := h.destroySnapshots(ctx, batch, deferred); err != nil {
			return failure(opDestroyS, some(batch), err)
		}
	}
	return nil
}

// Rename gives a dataset another name in its pool, or a snapshot another within its dataset.
// What is mounted stays mounted.
func (h *Handle) Rename(ctx context.Context, from, to string) error {
	if err := ready(ctx, checkAny(from), checkAny(to)); err != nil {
		return err
	}
	return failure(opRename, from+" to "+to, h.rename(ctx, from, to))
}

// Promote makes a clone independent of its origin, which becomes its snapshot, with all
// earlier ones; the dataset that it was a clone of becomes a clone. ErrExists when snapshots'
// names collide.
func (h *Handle) Promote(ctx context.Context, name string) error {
	if err := ready(ctx, checkDataset(name)); err != nil {
		return err
	}
	return failure(opPromote, name, h.promote(ctx, name))
}

// Rollback takes a dataset back to its latest snapshot, which is named. ErrDependents when
// there is a later one.
func (h *Handle) Rollback(ctx context.Context, snapshot string) error {
	if err := ready(ctx, checkSnapshot(snapshot)); err != nil {
		return err
	}
	return failure(opRollback, snapshot, h.rollback(ctx, snapshot))
}

// Set sets properties. Each is set or not by itself: after an error some may be set.
func (h *Handle) Set(ctx context.Context, name string, p Properties) error {
	if err := ready(ctx, checkAny(name), p.check()); err != nil || len(p) == 0 {
		return err
	}
	return failure(opSet, name, h.set(ctx, name, p))
}

// Inherit clears a property, so that the parent's value, or the default, counts again. One that
// is not set is no error.
func (h *Handle) Inherit(ctx context.Context, name, property string) error {
	if err := ready(ctx, checkAny(name), checkProperty(property)); err != nil {
		return err
	}
	return failure(opInherit, name, h.inherit(ctx, name, property))
}

// Stat says what a dataset or snapshot is.
func (h *Handle) Stat(ctx context.Context, name string) (Dataset, error) {
	if err := ready(ctx, checkAny(name)); err != nil {
		return Dataset{}, err
	}
	d, err := h.stat(ctx, name)
	return d, failure(opRead, name, err)
}

// Get reads a dataset's or snapshot's properties.
func (h *Handle) Get(ctx context.Context, name string) (Details, error) {
	if err := ready(ctx, checkAny(name)); err != nil {
		return Details{}, err
	}
	d, err := h.get(ctx, name)
	return d, failure(opRead, name, err)
}

// Children lists the datasets directly below one, not its snapshots. An error ends the list.
// What comes and goes meanwhile may be in it or not.
func (h *Handle) Children(ctx context.Context, name string) iter.Seq2[Dataset, error] {
	return h.each(ctx, name, false)
}

// Snapshots lists a dataset's snapshots, oldest first.
func (h *Handle) Snapshots(ctx context.Context, name string) iter.Seq2[Dataset, error] {
	return h.each(ctx, name, true)
}

func (h *Handle) each(ctx context.Context, name string, snapshots bool) iter.Seq2[Dataset, error] {
	return func(yield func(Dataset, error) bool) {
		err := ready(ctx, checkDataset(name))
		more := true
		if err == nil {
			err = h.list(ctx, name, snapshots, func(d Dataset) bool {
				more = yield(d, nil)
				return more
			})
			err = failure(opList, name, err)
		}
		if err != nil && more {
			yield(Dataset{}, err)
		}
	}
}

// WrittenSince is how much of what a file system refers to was written after a snapshot of its
// own or of what it is a clone of.
func (h *Handle) WrittenSince(ctx context.Context, name, snapshot string) (Bytes, error) {
	if err := ready(ctx, checkAny(name), checkSnapshot(snapshot)); err != nil {
		return 0, err
	}
	n, err := h.writtenSince(ctx, name, snapshot)
	return n, failure(opRead, name, err)
}

// Sync waits until everything before it is on the pool's disks, counts of bytes included.
func (h *Handle) Sync(ctx context.Context, pool string) error {
	if err := ready(ctx, checkDataset(pool)); err != nil {
		return err
	}
	return failure(opSync, pool, h.sync(ctx, poolOf(pool)))
}

// some names the first of several.
func some(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
}
