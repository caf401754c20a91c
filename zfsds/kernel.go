package zfsds

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/zfsds/nvlist"
)

// kernel is the way by /dev/zfs.
type kernel struct {
	file *os.File
	// call issues a request; tests put a module of their own there.
	call func(request uintptr, b *ioctl.ZFSBuffer, source, destination []byte) error
}

// Room for results: at first, and at most. ENOMEM says that it was too little.
const (
	firstRoom = 128 << 10
	mostRoom  = 64 << 20
)

// A request is one to /dev/zfs: a new-style one has a name and arguments, a legacy one
// fields of the buffer, too.
type request struct {
	number    uintptr
	name      string
	value     string
	arguments *nvlist.List
	fields    func(*ioctl.ZFSBuffer)
	// room for a result; none: it is not read.
	room int
	// repeat after EINTR: what only reads, or does what is left to do.
	repeat bool
}

// do issues a request and gives its result, nil where it has none. Some requests have one
// also when they fail.
func (k *kernel) do(r request) (*ioctl.ZFSBuffer, *nvlist.List, error) {
	var source []byte
	if r.arguments != nil {
		var err error
		if source, err = nvlist.Marshal(r.arguments); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	for room := r.room; ; room *= 2 {
		b, result, err := k.once(r, source, room)
		if errors.Is(err, unix.ENOMEM) && room > 0 && room < mostRoom {
			continue
		}
		return b, result, err
	}
}

func (k *kernel) once(r request, source []byte, room int) (*ioctl.ZFSBuffer, *nvlist.List, error) {
	destination := make([]byte, room)
	for {
		b := &ioctl.ZFSBuffer{}
		if err := errors.Join(b.SetName(r.name), b.SetValue(r.value)); err != nil {
			return nil, nil, err
		}
		if r.fields != nil {
			r.fields(b)
		}
		err := k.call(r.number, b, source, destination)
		if err == unix.EINTR && r.repeat {
			continue
		}
		if b.DstFilled == 0 || room == 0 {
			return b, nil, err
		}
		result, broken := nvlist.Unmarshal(destination)
		if broken != nil && err == nil {
			err = fmt.Errorf("%w: %w", ErrCorrupt, broken)
		}
		return b, result, err
	}
}

// act issues a request that changes something.
func (k *kernel) act(number uintptr, name string, arguments *nvlist.List) error {
	return k.change(request{number: number, name: name, arguments: arguments})
}

func (k *kernel) change(r request) error {
	r.room = firstRoom
	_, result, err := k.do(r)
	if err == nil {
		return nil
	}
	return blame(err, result)
}

// each is act for requests that tell in their result only about names that do not exist.
func (k *kernel) each(number uintptr, name string, arguments *nvlist.List) error {
	_, result, err := k.do(request{number: number, name: name, arguments: arguments, room: firstRoom})
	return blame(err, result)
}

// blame is the first error that a result tells of one of several names, {name: errno}, or else
// the whole request's.
func blame(err error, result *nvlist.List) error {
	for name, value := range result.All() {
		if n, ok := value.(int32); ok && n != 0 && name != "N_MORE_ERRORS" {
			return fmt.Errorf("%s: %w", name, unix.Errno(n))
		}
	}
	return err
}

// withProperties adds the argument "props", where there are any.
func withProperties(l *nvlist.List, p Properties) (*nvlist.List, error) {
	if len(p) == 0 {
		return l, nil
	}
	properties, err := p.list()
	return l.Set("props", properties), err
}

func (k *kernel) create(_ context.Context, name string, p Properties) error {
	arguments, err := withProperties(new(nvlist.List).Set("type", int32(ioctl.DMU_OST_ZFS)), p)
	if err != nil {
		return err
	}
	return k.act(ioctl.ZFS_IOC_CREATE, name, arguments)
}

func (k *kernel) clone(_ context.Context, snapshot, name string, p Properties) error {
	arguments, err := withProperties(new(nvlist.List).Set("origin", snapshot), p)
	if err != nil {
		return err
	}
	return k.act(ioctl.ZFS_IOC_CLONE, name, arguments)
}

// flags is a list of names, each with no value.
func flags(names []string) *nvlist.List {
	l := &nvlist.List{}
	for _, name := range names {
		l.Set(name, nvlist.Flag{})
	}
	return l
}

func (k *kernel) snapshot(_ context.Context, names []string, p Properties) error {
	arguments, err := withProperties(new(nvlist.List).Set("snaps", flags(names)), p)
	if err != nil {
		return err
	}
	return k.act(ioctl.ZFS_IOC_SNAPSHOT, poolOf(names[0]), arguments)
}

// destroySnapshots: what SIGSTOP interrupts all the same is done once more, which passes over those that are gone.
func (k *kernel) destroySnapshots(_ context.Context, names []string, deferred bool) error {
	arguments := new(nvlist.List).Set("snaps", flags(names))
	if deferred {
		arguments.Set("defer", nvlist.Flag{})
	}
	return undisturbed(func() error {
		return k.change(request{number: ioctl.ZFS_IOC_DESTROY_SNAPS, name: poolOf(names[0]), arguments: arguments, repeat: true})
	})
}

func (k *kernel) destroy(_ context.Context, name string) error {
	_, _, err := k.do(request{number: ioctl.ZFS_IOC_DESTROY, name: name})
	return err
}

// renameNoUnmount keeps the module's hands off mounts (bit 1 of the cookie).
const renameNoUnmount = 2

func (k *kernel) rename(_ context.Context, from, to string) error {
	_, _, err := k.do(request{
		number: ioctl.ZFS_IOC_RENAME, name: from, value: to,
		fields: func(b *ioctl.ZFSBuffer) { b.Cookie = renameNoUnmount },
	})
	return err
}

func (k *kernel) promote(_ context.Context, name string) error {
	b, _, err := k.do(request{number: ioctl.ZFS_IOC_PROMOTE, name: name})
	if err == unix.EEXIST {
		return fmt.Errorf("snapshot %s is on both sides: %w", ioctl.CString(b.String[:]), err)
	}
	return err
}

func (k *kernel) rollback(_ context.Context, snapshot string) error {
	dataset := Dataset{Name: snapshot}.Parent()
	return k.act(ioctl.ZFS_IOC_ROLLBACK, dataset, new(nvlist.List).Set("target", snapshot))
}

func (k *kernel) set(_ context.Context, name string, p Properties) error {
	arguments, err := p.list()
	if err != nil {
		return err
	}
	return k.act(ioctl.ZFS_IOC_SET_PROP, name, arguments)
}

func (k *kernel) inherit(_ context.Context, name, property string) error {
	_, _, err := k.do(request{number: ioctl.ZFS_IOC_INHERIT_PROP, name: name, value: property})
	if err == unix.ENOENT && isUser(property) {
		// The kernel says so of a user property that is set nowhere, and of no dataset.
		_, err = k.stat(context.Background(), name)
	}
	return err
}

func (k *kernel) stat(_ context.Context, name string) (Dataset, error) {
	b, _, err := k.do(request{number: ioctl.ZFS_IOC_OBJSET_STATS, name: name, repeat: true})
	if err != nil {
		return Dataset{}, err
	}
	return datasetOf(b, name), nil
}

func datasetOf(b *ioctl.ZFSBuffer, name string) Dataset {
	s := &b.ObjsetStats
	d := Dataset{
		Name: name, Type: Filesystem, GUID: s.GUID, Created: s.CreationTxg,
		Origin: ioctl.CString(s.Origin[:]), Clones: int(s.NumClones),
	}
	switch {
	case s.IsSnapshot != 0:
		d.Type = Snapshot
	case s.Type == ioctl.DMU_OST_ZVOL:
		d.Type = Volume
	}
	if d.Type != Snapshot { // the module counts differently there
		d.Clones = 0
	}
	return d
}

// list walks by a cursor. The module writes each child's name behind the parent's, so
// that each request is told the parent's again.
func (k *kernel) list(ctx context.Context, name string, snapshots bool, yield func(Dataset) bool) error {
	number := uintptr(ioctl.ZFS_IOC_DATASET_LIST_NEXT)
	if snapshots {
		number = ioctl.ZFS_IOC_SNAPSHOT_LIST_NEXT
	}
	var found []Dataset
	for cursor := uint64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, _, err := k.do(request{number: number, name: name, repeat: true, fields: func(b *ioctl.ZFSBuffer) {
			b.Cookie, b.Simple = cursor, 1
		}})
		if err == unix.ESRCH {
			break
		}
		if err != nil {
			return err
		}
		if b.Cookie == cursor {
			return fmt.Errorf("%w: the list of %s does not end", ErrCorrupt, name)
		}
		cursor = b.Cookie
		found = append(found, datasetOf(b, ioctl.CString(b.Name[:])))
	}
	slices.SortFunc(found, byAge)
	for _, d := range found {
		if !yield(d) {
			return nil
		}
	}
	return nil
}
