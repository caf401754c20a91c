package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/failpoint"
	"blockstore.dev/blockstore/snapshot/mount"
)

// volumes keeps count of who uses which volume in this process, and where it is
// mounted. A volume is active while its count is above zero. What survives the
// process (Mount's mounts) is read back from the kernel's mountinfo.
type volumes struct {
	store *Store

	mu     sync.Mutex
	states map[VolumeID]*volumeState
	apart  bool // dirMounts is a private mount of its own
}

// volumeState is locked over activation and mounting of its volume only. active and
// shown are changed under that lock, and read without it by those who only look.
type volumeState struct {
	mu      sync.Mutex
	waiting int // goroutines that hold or wait for mu; guarded by volumes.mu

	active atomic.Int32  // reasons to be active
	mounts []mount.Mount // what Activate returned
	work   int           // users of the mount below dirWork
	shown  atomic.Bool   // mounted below dirMounts by Mount
	reads  int           // users of that mount in this process
	lent   bool          // Mounts handed them out
}

// state returns the locked state of a volume and the function that unlocks it.
func (v *volumes) state(id VolumeID) (*volumeState, func()) {
	v.mu.Lock()
	st := v.states[id]
	if st == nil {
		st = &volumeState{}
		v.states[id] = st
	}
	st.waiting++
	v.mu.Unlock()
	st.mu.Lock()
	return st, func() {
		st.mu.Unlock()
		v.mu.Lock()
		defer v.mu.Unlock()
		if st.waiting--; st.waiting == 0 && st.active.Load() == 0 {
			delete(v.states, id)
		}
	}
}

// adopt takes note of a mount that Mount made in an earlier process.
func (v *volumes) adopt(id VolumeID) {
	st, unlock := v.state(id)
	defer unlock()
	if !st.shown.Load() {
		st.shown.Store(true)
		st.active.Add(1)
	}
}

func (v *volumes) shown(id VolumeID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	st := v.states[id]
	return st != nil && st.shown.Load()
}

// inUse says whether anybody uses the volume in this process or has it shown.
func (v *volumes) inUse(id VolumeID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	st := v.states[id]
	return st != nil && st.active.Load() > 0
}

func (v *volumes) dir(kind string, id VolumeID) string {
	return filepath.Join(v.store.root, kind, strconv.FormatUint(uint64(id), 10))
}

// activate adds a reason to be active. The state is locked by the caller.
func (v *volumes) activate(ctx context.Context, st *volumeState, vol Volume) error {
	if st.active.Load() == 0 || st.mounts == nil {
		ms, err := v.store.driver.Activate(ctx, vol, vol.Sealed)
		if err != nil {
			return fmt.Errorf("activating volume %d: %w", vol.ID, noSpace(err))
		}
		st.mounts = ms
		failpoint.Hit("volume.activated")
	}
	st.active.Add(1)
	return nil
}

// deactivate ends one reason to be active. A volume that the driver does not let
// go of counts as lent: whoever takes it back tries again.
func (v *volumes) deactivate(ctx context.Context, st *volumeState, id VolumeID) error {
	st.active.Add(-1)
	if st.active.Load() > 0 {
		return nil
	}
	st.mounts = nil
	if err := v.store.driver.Deactivate(ctx, id); err != nil {
		st.active.Store(1)
		st.lent = true
		return fmt.Errorf("deactivating volume %d: %w", id, err)
	}
	failpoint.Hit("volume.deactivated")
	return nil
}

// mountAt activates and mounts a volume at its directory below kind.
func (v *volumes) mountAt(ctx context.Context, st *volumeState, vol Volume, kind string, o MountOptions) (string, error) {
	if d, ok := v.store.driver.(Devicer); ok && !vol.Sealed {
		if err := d.MayMount(ctx, vol.ID); err != nil {
			return "", err
		}
	}
	if err := v.activate(ctx, st, vol); err != nil {
		return "", err
	}
	dir := v.dir(kind, vol.ID)
	err := os.Mkdir(dir, 0o700)
	if err == nil || errors.Is(err, os.ErrExist) {
		failpoint.Hit("volume.mountpoint")
		err = mount.Labelled(st.mounts, dir, o.Label)
	}
	if err != nil {
		undo := errors.Join(ignoreMissing(os.Remove(dir)), v.deactivate(context.WithoutCancel(ctx), st, vol.ID))
		return "", errors.Join(noSpace(err), undo)
	}
	failpoint.Hit("volume.mounted")
	return dir, nil
}

// unmountFrom undoes mountAt. One that is busy stays as it was.
func (v *volumes) unmountFrom(ctx context.Context, st *volumeState, vol Volume, kind string) error {
	dir := v.dir(kind, vol.ID)
	n := max(len(st.mounts), 1)
	for range n {
		if err := mount.Unmount(dir); err != nil {
			if errors.Is(err, unix.EBUSY) {
				err = fmt.Errorf("%w: %s: %w", ErrBusy, holders(dir), err)
			}
			return err
		}
	}
	failpoint.Hit("volume.unmounted")
	if kind == dirMounts {
		st.shown.Store(false)
	}
	err := ignoreMissing(os.Remove(dir))
	offErr := v.deactivate(context.WithoutCancel(ctx), st, vol.ID)
	if errors.Is(offErr, ErrBusy) { // lent by a process before this one, and still mounted by who got it
		offErr = nil
	}
	return errors.Join(err, offErr)
}

// use shows a volume to this process: where Mount shows it already, or below
// dirWork.
func (v *volumes) use(ctx context.Context, vol Volume) (dir string, release func() error, err error) {
	st, unlock := v.state(vol.ID)
	defer unlock()
	if st.shown.Load() {
		st.reads++
		return v.dir(dirMounts, vol.ID), v.once(func() error {
			st, unlock := v.state(vol.ID)
			defer unlock()
			st.reads--
			return nil
		}), nil
	}
	if st.work == 0 {
		if _, err := v.mountAt(ctx, st, vol, dirWork, MountOptions{}); err != nil {
			return "", nil, err
		}
	}
	st.work++
	return v.dir(dirWork, vol.ID), v.once(func() error {
		st, unlock := v.state(vol.ID)
		defer unlock()
		if st.work--; st.work > 0 {
			return nil
		}
		return v.unmountFrom(ctx, st, vol, dirWork)
	}), nil
}

// once makes a release that may be called again without effect.
func (v *volumes) once(fn func() error) func() error {
	var once sync.Once
	return func() (err error) {
		once.Do(func() { err = fn() })
		return err
	}
}

// show mounts a volume for others until hide, beyond the life of this process.
func (v *volumes) show(ctx context.Context, vol Volume, o MountOptions) (string, error) {
	if err := v.private(); err != nil {
		return "", err
	}
	st, unlock := v.state(vol.ID)
	defer unlock()
	if st.shown.Load() {
		return v.dir(dirMounts, vol.ID), nil
	}
	dir, err := v.mountAt(ctx, st, vol, dirMounts, o)
	st.shown.Store(err == nil)
	return dir, err
}

// hide undoes show. What is not shown is no error.
func (v *volumes) hide(ctx context.Context, vol Volume) error {
	st, unlock := v.state(vol.ID)
	defer unlock()
	if !st.shown.Load() {
		return nil
	}
	if st.reads > 0 {
		return fmt.Errorf("volume %d is being read: %w", vol.ID, ErrBusy)
	}
	return v.unmountFrom(ctx, st, vol, dirMounts)
}

// detach ends show without waiting for whoever has files open there: they keep
// what they have, and the volume is let go of with the last of them.
func (v *volumes) detach(ctx context.Context, vol Volume) error {
	st, unlock := v.state(vol.ID)
	defer unlock()
	if !st.shown.Load() {
		return nil
	}
	err := v.unmountFrom(ctx, st, vol, dirMounts)
	if !errors.Is(err, ErrBusy) {
		return err
	}
	dir := v.dir(dirMounts, vol.ID)
	for range max(len(st.mounts), 1) {
		if err := mount.Detach(dir); err != nil {
			return err
		}
	}
	st.shown.Store(false)
	err = ignoreMissing(os.Remove(dir))
	if offErr := v.deactivate(context.WithoutCancel(ctx), st, vol.ID); !errors.Is(offErr, ErrBusy) {
		err = errors.Join(err, offErr)
	}
	return err
}

// sealIdle runs seal, which ends in the driver's Seal, if nobody uses the volume, and
// nobody begins to meanwhile. It says whether it did. What was lent and is not in use is
// taken back: Seal deactivates it.
func (v *volumes) sealIdle(id VolumeID, seal func() error) (bool, error) {
	st, unlock := v.state(id)
	defer unlock()
	if n := st.active.Load(); n > 1 || n == 1 && !st.lent {
		return false, nil
	}
	err := seal()
	st.mounts = nil // whoever goes on with the volume activates it anew
	if err == nil && st.lent {
		st.lent = false
		st.active.Add(-1)
	}
	return err == nil, err
}

// refuseWriters makes the place where a volume is shown read-only. Where files are
// open for writing it stays as it is.
func (v *volumes) refuseWriters(id VolumeID) {
	st, unlock := v.state(id)
	defer unlock()
	if st.shown.Load() {
		_ = mount.ReadOnly(v.dir(dirMounts, id))
	}
}

// lend activates a volume for somebody who mounts it without us.
func (v *volumes) lend(ctx context.Context, vol Volume) ([]mount.Mount, error) {
	st, unlock := v.state(vol.ID)
	defer unlock()
	if st.lent && st.mounts != nil {
		return v.published(ctx, st, vol.ID)
	}
	if err := v.activate(ctx, st, vol); err != nil {
		return nil, err
	}
	if st.lent {
		st.active.Add(-1)
	}
	st.lent = true
	return v.published(ctx, st, vol.ID)
}

func (v *volumes) published(ctx context.Context, st *volumeState, id VolumeID) ([]mount.Mount, error) {
	if p, ok := v.store.driver.(Publisher); ok {
		return p.Publish(ctx, id, st.mounts)
	}
	return st.mounts, nil
}

// takeBack ends lend; a volume that is still mounted is ErrBusy.
func (v *volumes) takeBack(ctx context.Context, id VolumeID) error {
	st, unlock := v.state(id)
	defer unlock()
	return v.unlend(ctx, st, id)
}

// retire runs remove on a volume that nobody uses; nobody begins to meanwhile.
func (v *volumes) retire(ctx context.Context, id VolumeID, remove func() error) error {
	st, unlock := v.state(id)
	defer unlock()
	if err := v.unlend(ctx, st, id); err != nil {
		return err
	}
	if st.active.Load() > 0 {
		return fmt.Errorf("volume %d: %w", id, ErrBusy)
	}
	return remove()
}

func (v *volumes) unlend(ctx context.Context, st *volumeState, id VolumeID) error {
	if !st.lent {
		return nil
	}
	if err := v.deactivate(ctx, st, id); err != nil {
		return err
	}
	st.lent = false
	return nil
}

// releaseLent takes back what nobody mounted; the rest stays for its users.
func (v *volumes) releaseLent(ctx context.Context) error {
	v.mu.Lock()
	var lent []VolumeID
	for id, st := range v.states {
		if st.lent {
			lent = append(lent, id)
		}
	}
	v.mu.Unlock()
	var errs []error
	for _, id := range lent {
		if err := v.takeBack(ctx, id); err != nil && !errors.Is(err, ErrBusy) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
