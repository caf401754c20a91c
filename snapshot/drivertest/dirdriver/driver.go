package dirdriver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// Driver keeps volume N in volumes/N/tree; volumes/N/sealed marks a sealed one.
type Driver struct {
	root   string
	faults *Faults

	mu     sync.Mutex
	active map[snapshot.VolumeID]bool
}

func (d *Driver) path(name string) string { return filepath.Join(d.root, name) }

func (d *Driver) dir(id snapshot.VolumeID) string {
	return filepath.Join(d.root, "volumes", strconv.FormatUint(uint64(id), 10))
}

func (d *Driver) tree(id snapshot.VolumeID) string { return filepath.Join(d.dir(id), "tree") }

func (d *Driver) exists(id snapshot.VolumeID) bool {
	_, err := os.Stat(d.tree(id))
	return err == nil
}

func (d *Driver) sealed(id snapshot.VolumeID) bool {
	_, err := os.Stat(filepath.Join(d.dir(id), "sealed"))
	return err == nil
}

func (d *Driver) markSealed(id snapshot.VolumeID) error {
	return os.WriteFile(filepath.Join(d.dir(id), "sealed"), nil, 0o600)
}

// mountedAt returns a directory where the volume is mounted, or "". A bind
// mount's root in mountinfo is the tree's path within its file system.
func (d *Driver) mountedAt(id snapshot.VolumeID) (string, error) {
	all, err := mount.Table()
	if err != nil {
		return "", err
	}
	tree := d.tree(id)
	tail := strings.TrimPrefix(tree, filepath.Dir(filepath.Dir(d.root)))
	for _, e := range all {
		if strings.HasSuffix(tree, e.Root) && strings.HasSuffix(e.Root, tail) {
			return e.Target, nil
		}
	}
	return "", nil
}

// Name returns [Name].
func (d *Driver) Name() string { return Name }

// Create copies the origin.
func (d *Driver) Create(_ context.Context, id snapshot.VolumeID, o snapshot.CreateOptions) (err error) {
	d.faults.call("create")
	defer d.faults.exclusive("create", id)()
	if err := d.faults.step("create.begin"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(d.dir(id)))
		}
	}()
	return d.copyFrom(id, o.Origin.ID)
}

func (d *Driver) copyFrom(id, origin snapshot.VolumeID) error {
	if !d.exists(origin) {
		d.faults.violation("create of volume %d from %d, which does not exist", id, origin)
		return fmt.Errorf("volume %d: %w", origin, snapshot.ErrNotFound)
	}
	if err := os.RemoveAll(d.dir(id)); err != nil {
		return err
	}
	if err := os.Mkdir(d.dir(id), 0o700); err != nil {
		return err
	}
	if err := d.faults.step("create.half"); err != nil {
		return err
	}
	if err := copyTree(d.tree(origin), d.tree(id)); err != nil {
		return err
	}
	return d.faults.step("create.end")
}

// Seal marks the volume. Only the mounts that Activate returns keep it from
// being written to.
func (d *Driver) Seal(_ context.Context, v snapshot.Volume) error {
	d.faults.call("seal")
	defer d.faults.exclusive("seal", v.ID)()
	if err := d.faults.step("seal.begin"); err != nil {
		return err
	}
	if !d.exists(v.ID) {
		return fmt.Errorf("volume %d: %w", v.ID, snapshot.ErrNotFound)
	}
	if where, err := d.mountedAt(v.ID); err != nil || where != "" {
		return errors.Join(err, fmt.Errorf("volume %d is mounted at %s: %w", v.ID, where, snapshot.ErrBusy))
	}
	d.setActive(v.ID, false)
	if err := d.markSealed(v.ID); err != nil {
		return err
	}
	return d.faults.step("seal.end")
}

// SealBelow is both.
func (d *Driver) SealBelow(ctx context.Context, v snapshot.Volume, next snapshot.VolumeID, _ int64) error {
	if err := d.Seal(ctx, v); err != nil {
		return err
	}
	return d.Create(ctx, next, snapshot.CreateOptions{Origin: v})
}

// Unseal removes marks.
func (d *Driver) Unseal(_ context.Context, ids ...snapshot.VolumeID) error {
	for _, id := range ids {
		if err := os.Remove(filepath.Join(d.dir(id), "sealed")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Remove deletes directories.
func (d *Driver) Remove(_ context.Context, ids ...snapshot.VolumeID) error {
	var errs []error
	for _, id := range ids {
		d.faults.call("remove")
		errs = append(errs, d.remove(id))
	}
	return errors.Join(errs...)
}

func (d *Driver) remove(id snapshot.VolumeID) error {
	defer d.faults.exclusive("remove", id)()
	if err := d.faults.step("remove.begin"); err != nil {
		return err
	}
	if where, err := d.mountedAt(id); err != nil || where != "" {
		return errors.Join(err, fmt.Errorf("volume %d is mounted at %s: %w", id, where, snapshot.ErrBusy))
	}
	if d.isActive(id) {
		d.faults.violation("remove of volume %d, which is active", id)
		return fmt.Errorf("volume %d is active: %w", id, snapshot.ErrBusy)
	}
	if err := os.RemoveAll(d.dir(id)); err != nil {
		return err
	}
	return d.faults.step("remove.end")
}

func (d *Driver) isActive(id snapshot.VolumeID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.active[id]
}

func (d *Driver) setActive(id snapshot.VolumeID, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if on {
		d.active[id] = true
	} else {
		delete(d.active, id)
	}
}

// Active lists the active volumes.
func (d *Driver) Active() []snapshot.VolumeID {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ids []snapshot.VolumeID
	for id := range d.active {
		ids = append(ids, id)
	}
	return ids
}

// Activate returns a bind mount.
func (d *Driver) Activate(_ context.Context, v snapshot.Volume, readOnly bool) ([]mount.Mount, error) {
	d.faults.call("activate")
	defer d.faults.exclusive("activate", v.ID)()
	if err := d.faults.step("activate"); err != nil {
		return nil, err
	}
	if !d.exists(v.ID) {
		return nil, fmt.Errorf("volume %d: %w", v.ID, snapshot.ErrNotFound)
	}
	d.setActive(v.ID, true)
	m := mount.Mount{Type: "bind", Source: d.tree(v.ID), Options: []string{"bind"}}
	if readOnly || v.Sealed || d.sealed(v.ID) {
		m.Options = append(m.Options, "ro")
	}
	return []mount.Mount{m}, nil
}

// Locate compares the source with the volume's directory.
func (d *Driver) Locate(_ context.Context, m mount.Mount) (snapshot.VolumeID, error) {
	foreign := fmt.Errorf("%s: %w", m.Source, snapshot.ErrNotFound)
	id, err := strconv.ParseUint(filepath.Base(filepath.Dir(m.Source)), 10, 32)
	if err != nil || !m.Binds() {
		return 0, foreign
	}
	there, err := os.Stat(m.Source)
	if err != nil {
		return 0, foreign
	}
	ours, err := os.Stat(d.tree(snapshot.VolumeID(id)))
	if err != nil || !os.SameFile(there, ours) {
		return 0, foreign
	}
	return snapshot.VolumeID(id), nil
}

// Deactivate forgets that the volume is active.
func (d *Driver) Deactivate(_ context.Context, id snapshot.VolumeID) error {
	d.faults.call("deactivate")
	defer d.faults.exclusive("deactivate", id)()
	if err := d.faults.step("deactivate"); err != nil {
		return err
	}
	if where, err := d.mountedAt(id); err != nil || where != "" {
		return errors.Join(err, fmt.Errorf("volume %d is mounted at %s: %w", id, where, snapshot.ErrBusy))
	}
	d.setActive(id, false)
	return nil
}

// Usage counts the bytes of a tree; what is the same in the origin cannot be
// told apart, since it is a copy.
func (d *Driver) Usage(_ context.Context, v snapshot.Volume) (snapshot.Usage, error) {
	d.faults.call("usage")
	if err := d.faults.step("usage"); err != nil {
		return snapshot.Usage{}, err
	}
	own, err := treeBytes(d.tree(v.ID))
	if err != nil {
		return snapshot.Usage{}, err
	}
	below, err := treeBytes(d.tree(v.Origin))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return snapshot.Usage{Added: max(own-below, 0)}, err
}

// Referenced counts the bytes of trees.
func (d *Driver) Referenced(_ context.Context, volumes ...snapshot.Volume) ([]int64, error) {
	d.faults.call("referenced")
	if err := d.faults.step("referenced"); err != nil {
		return nil, err
	}
	var all []int64
	for _, v := range volumes {
		own, err := treeBytes(d.tree(v.ID))
		if err != nil {
			return nil, err
		}
		all = append(all, own)
	}
	return all, nil
}

// Volumes lists the directories.
func (d *Driver) Volumes(context.Context) ([]snapshot.VolumeID, error) {
	d.faults.call("volumes")
	if err := d.faults.step("volumes"); err != nil {
		return nil, err
	}
	return d.volumes()
}

func (d *Driver) volumes() ([]snapshot.VolumeID, error) {
	entries, err := os.ReadDir(d.path("volumes"))
	if err != nil {
		return nil, err
	}
	var ids []snapshot.VolumeID
	for _, e := range entries {
		n, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil {
			return nil, err
		}
		if id := snapshot.VolumeID(n); id >= snapshot.FirstVolumeID {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Check sees that known volumes exist, no others do, and sealed ones are marked.
func (d *Driver) Check(_ context.Context, known []snapshot.Volume) ([]snapshot.Finding, error) {
	d.faults.call("check")
	if err := d.faults.step("check"); err != nil {
		return nil, err
	}
	ids, err := d.volumes()
	if err != nil {
		return nil, err
	}
	var found []snapshot.Finding
	for _, v := range known {
		ids = slices.DeleteFunc(ids, func(id snapshot.VolumeID) bool { return id == v.ID })
		switch {
		case !d.exists(v.ID):
			found = append(found, snapshot.Finding{Volume: v.ID, Text: "its directory is missing"})
		case v.Sealed && !d.sealed(v.ID):
			found = append(found, snapshot.Finding{Volume: v.ID, Text: "the catalog calls it sealed, and it is not"})
		}
	}
	for _, id := range ids {
		found = append(found, snapshot.Finding{Volume: id, Text: "the catalog does not know it"})
	}
	return found, nil
}

// Status counts the bytes of all volumes.
func (d *Driver) Status(context.Context) (snapshot.Status, error) {
	d.faults.call("status")
	used, err := treeBytes(d.path("volumes"))
	return snapshot.Status{
		Healthy: true, Data: snapshot.Space{Used: used},
		Rows: []snapshot.Row{{Label: "Directory", Value: d.root}},
	}, err
}

// Epoch reads the counter.
func (d *Driver) Epoch(context.Context) (uint64, error) {
	raw, err := os.ReadFile(d.path("epoch"))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(raw), 10, 64)
}

// SetEpoch writes the counter.
func (d *Driver) SetEpoch(ctx context.Context, from, to uint64) error {
	d.faults.call("epoch")
	if err := d.faults.step("epoch"); err != nil {
		return err
	}
	have, err := d.Epoch(ctx)
	if err != nil {
		return err
	}
	if have != from {
		return fmt.Errorf("the counter is at %d, not %d: %w", have, from, snapshot.ErrCorrupt)
	}
	return d.writeEpoch(to)
}

func (d *Driver) writeEpoch(n uint64) error {
	temp := d.path("epoch.new")
	if err := os.WriteFile(temp, []byte(strconv.FormatUint(n, 10)), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, d.path("epoch"))
}

// Close has nothing to release.
func (d *Driver) Close(context.Context) error {
	d.faults.call("close")
	return d.faults.step("close")
}

// treeBytes sums the blocks of all files below dir, each inode once.
func treeBytes(dir string) (int64, error) {
	seen := map[uint64]bool{}
	var sum int64
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if !seen[st.Ino] {
			seen[st.Ino] = true
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum, err
}
