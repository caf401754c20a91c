package thinpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
)

// The numbers of a pool, 2^24, are dealt out in shares. The lowest is never taken: LVM, dockerd and containerd count
// their thin devices from 1 upwards and pass over numbers that they do not know.
const (
	// ShareNumbers is how many numbers a share has.
	ShareNumbers = 1 << 21
	shares       = (int(dm.MaxDeviceID) + 1) / ShareNumbers
	// ShareDevices is how many of a share's numbers are for thin devices; the others count epochs.
	ShareDevices = ShareNumbers - shareEpochs
)

// Share is a range of numbers in a pool that belongs to somebody else: LVM, or whoever made it. Numbers of thin devices
// are relative to it. The pool itself is never loaded, suspended, resumed, formatted, grown or removed here, its
// transaction id and superblock are never written, and devices outside of the range are never touched.
type Share struct {
	// PoolUUID is the pool device's in device-mapper, "" if it has none, and PoolName its name, which then serves.
	PoolUUID string `json:"pool_uuid,omitempty"`
	PoolName string `json:"pool_name"`
	// FrontUUID, if set, is the uuid of a device that the owner keeps above the pool and looks at before it deactivates it
	// (LVM's of a pool with thin volumes). Where it exists it is held open as the pool is.
	FrontUUID string `json:"front_uuid,omitempty"`
	// First is the pool's number of our number 0.
	First dm.DeviceID `json:"first"`
}

func (s *Share) ref() dm.Ref {
	if s.PoolUUID != "" {
		return dm.UUID(s.PoolUUID)
	}
	return dm.Name(s.PoolName)
}

func (s *Share) validate() error {
	if s.PoolUUID == "" && s.PoolName == "" || s.First == 0 || s.First%ShareNumbers != 0 || s.First > dm.MaxDeviceID {
		return fmt.Errorf("share from number %d of pool %q: %w", s.First, s.PoolName, ErrInvalid)
	}
	return nil
}

// kernelID is a thin device's number in the pool. One that is not in the share becomes a number that no pool has.
func (c Config) kernelID(id dm.DeviceID) dm.DeviceID {
	switch {
	case c.Share == nil:
		return id
	case id >= ShareDevices:
		return dm.MaxDeviceID + 1
	}
	return c.Share.First + id
}

// numbered refuses a new device whose number is outside of the share.
func (c Config) numbered(id dm.DeviceID) error {
	if c.Share != nil && id >= ShareDevices {
		return fmt.Errorf("%w: a share of a pool has %d numbers", ErrWornOut, ShareDevices)
	}
	return nil
}

// ours keeps those devices of the pool that are ours, with our numbers.
func (c Config) ours(all []DeviceDetails) []DeviceDetails {
	if c.Share == nil {
		return all
	}
	var ours []DeviceDetails
	for _, d := range all {
		if id, ok := c.ownID(d.ID); ok {
			d.ID = id
			ours = append(ours, d)
		}
	}
	return ours
}

// ownID is the inverse of kernelID.
func (c Config) ownID(kernel dm.DeviceID) (dm.DeviceID, bool) {
	if c.Share == nil {
		return kernel, true
	}
	return kernel - c.Share.First, kernel >= c.Share.First && kernel-c.Share.First < ShareDevices
}

// InMetadata is the number by which a view of the pool's metadata knows a thin device.
func (p *Pool) InMetadata(id dm.DeviceID) dm.DeviceID { return p.config.kernelID(id) }

// FromMetadata is the inverse of InMetadata. Of a device that is not this pool's, but of somebody with whom it is shared,
// it says so.
func (p *Pool) FromMetadata(kernel dm.DeviceID) (id dm.DeviceID, ours bool) {
	return p.config.ownID(kernel)
}

// own refuses what only the pool's owner may do.
func (p *Pool) own() error {
	if p.config.Share != nil {
		return fmt.Errorf("the pool %s is somebody else's: %w", p.config.Share.PoolName, ErrForeign)
	}
	return nil
}

// FindShare looks at an active thin pool that is somebody else's, by its name in device-mapper or the path of its device,
// and returns c with a free share of it and its block size. It changes nothing: Create takes the share. A pool that hands
// out blocks with old contents is ErrInvalid, one without a free share ErrNoSpace, one that is not active ErrInactive.
func FindShare(ctx context.Context, client *dm.Client, pool string, c Config) (Config, error) {
	number, err := poolNumber(ctx, client, pool)
	if err != nil {
		return c, fmt.Errorf("looking for thin pool %s: %w", pool, err)
	}
	info, err := client.Info(ctx, dm.Dev(number))
	if err != nil {
		return c, fmt.Errorf("looking for thin pool %s: %w", pool, err)
	}
	c.Loopback, c.Data, c.Metadata = false, "", ""
	c.Share = &Share{PoolUUID: info.UUID, PoolName: info.Name, First: ShareNumbers}
	p := &Pool{dm: client, config: c, ref: c.Share.ref()}
	defer p.leave()
	target, err := p.take(ctx)
	if err != nil {
		return c, fmt.Errorf("looking at thin pool %s: %w", pool, err)
	}
	c.BlockSize = target.BlockSize
	all, err := p.allDevices(ctx)
	if err != nil {
		return c, fmt.Errorf("looking at thin pool %s: %w", pool, err)
	}
	c.Share.First, err = freeShare(all)
	if err != nil {
		return c, fmt.Errorf("looking at thin pool %s: %w", pool, err)
	}
	return c, nil
}

// poolNumber finds the device by name or path.
func poolNumber(ctx context.Context, client *dm.Client, pool string) (dm.Number, error) {
	info, err := client.Info(ctx, dm.Name(pool))
	if err == nil {
		return info.Dev, nil
	}
	if n, derr := dm.BlockDeviceNumber(pool); derr == nil {
		return n, nil
	}
	if errors.Is(err, dm.ErrNotFound) || errors.Is(err, dm.ErrInvalid) {
		return dm.Number{}, fmt.Errorf("%w: there is no such device", ErrInactive)
	}
	return dm.Number{}, err
}

// freeShare is the first number of the highest share without devices.
func freeShare(all []DeviceDetails) (dm.DeviceID, error) {
	var used [shares]bool
	for _, d := range all {
		used[d.ID/ShareNumbers] = true
	}
	for i := shares - 1; i > 0; i-- {
		if !used[i] {
			return dm.DeviceID(i * ShareNumbers), nil
		}
	}
	return 0, fmt.Errorf("%w: others have thin devices in each of its %d ranges of numbers", ErrNoSpace, shares-1)
}

// take makes sure that the pool is there and fit for us, and holds it: whoever owns it cannot deactivate it meanwhile.
func (p *Pool) take(ctx context.Context) (dm.ThinPool, error) {
	info, err := p.dm.Info(ctx, p.ref)
	switch {
	case errors.Is(err, dm.ErrNotFound), err == nil && !info.HasActive:
		return dm.ThinPool{}, fmt.Errorf("pool %s: %w", p.config.Share.PoolName, ErrInactive)
	case err != nil:
		return dm.ThinPool{}, err
	case info.Suspended:
		return dm.ThinPool{}, fmt.Errorf("pool %s is suspended by its owner (if for good: dmsetup resume %s): %w", info.Name, info.Name, ErrBusy)
	}
	if err := p.occupy(ctx, info.Dev); err != nil {
		return dm.ThinPool{}, fmt.Errorf("holding pool %s: %w", info.Name, err)
	}
	p.number = info.Dev
	target, err := p.target(ctx)
	if err != nil {
		return target, err
	}
	if target.SkipBlockZeroing {
		return target, fmt.Errorf("pool %s hands out blocks with what others left in them (skip_block_zeroing): have its owner zero them (LVM: lvchange --zero y VG/LV): %w", info.Name, ErrInvalid)
	}
	return target, nil
}

// occupy opens the pool's device, and the one in front of it.
func (p *Pool) occupy(ctx context.Context, number dm.Number) error {
	numbers := []dm.Number{number}
	if uuid := p.config.Share.FrontUUID; uuid != "" {
		front, err := p.dm.Info(ctx, dm.UUID(uuid))
		if err == nil {
			numbers = append(numbers, front.Dev)
		} else if !errors.Is(err, dm.ErrNotFound) {
			return err
		}
	}
	for _, n := range numbers {
		f, err := dm.OpenDevice(n, os.O_RDONLY|unix.O_CLOEXEC)
		if err != nil {
			return err
		}
		p.held = append(p.held, f)
	}
	return nil
}

// target is the pool's table.
func (p *Pool) target(ctx context.Context) (dm.ThinPool, error) {
	info, lines, err := p.dm.Table(ctx, p.ref, dm.TableOptions{})
	if err != nil {
		return dm.ThinPool{}, err
	}
	if info.Dev != p.number {
		return dm.ThinPool{}, fmt.Errorf("pool %s was made anew meanwhile: %w", info.Name, ErrBusy)
	}
	table, err := dm.ParseTable(lines)
	if err != nil {
		return dm.ThinPool{}, err
	}
	if len(table) == 1 {
		if target, ok := table[0].Target.(dm.ThinPool); ok {
			return target, nil
		}
	}
	return dm.ThinPool{}, fmt.Errorf("device %s is no thin pool: %w", info.Name, ErrInvalid)
}

// leave ends what take began.
func (p *Pool) leave() {
	if len(p.held) > 0 {
		// A child that is forked and not yet executed has the descriptor too, and with it the lock (flock(2)).
		_ = unix.Flock(int(p.held[0].Fd()), unix.LOCK_UN)
	}
	for _, f := range p.held {
		f.Close()
	}
	p.held = nil
}

// openShare is Open for a share.
func openShare(ctx context.Context, client *dm.Client, c Config) (_ *Pool, err error) {
	p := &Pool{dm: client, config: c, ref: c.Share.ref()}
	defer func() {
		if err != nil {
			p.leave()
			err = fmt.Errorf("opening the share of pool %s: %w", c.Share.PoolName, err)
		}
	}()
	target, err := p.take(ctx)
	if err != nil {
		return nil, err
	}
	if target.BlockSize != c.BlockSize {
		return nil, fmt.Errorf("%w: pool has blocks of %d sectors, not %d", ErrForeign, target.BlockSize, c.BlockSize)
	}
	path, _, err := p.metadataDevice(ctx)
	if err != nil {
		return nil, err
	}
	sb, err := ReadSuperblock(path)
	if err != nil {
		return nil, err
	}
	p.snapshots.Store(sb.Time)
	if err := p.settle(ctx); err != nil {
		return nil, err
	}
	// What nobody marked is the owner's.
	if err := p.letGo(ctx, false); err != nil {
		return nil, err
	}
	return p, p.verifyMark(ctx)
}

// createShare is Create for a share: mark and first epoch.
func createShare(ctx context.Context, client *dm.Client, c Config) (*Pool, error) {
	p := &Pool{dm: client, config: c, ref: c.Share.ref()}
	defer p.leave()
	if _, err := p.take(ctx); err != nil {
		return nil, fmt.Errorf("taking a share of pool %s: %w", c.Share.PoolName, err)
	}
	if err := p.lock(); err != nil {
		return nil, err
	}
	err := p.claim(ctx)
	if err == nil {
		var opened *Pool
		if opened, err = openShare(ctx, client, c); err == nil {
			return opened, nil
		}
	}
	err = fmt.Errorf("taking a share of pool %s: %w", c.Share.PoolName, err)
	if errors.Is(err, errTaken) {
		return nil, err // nothing in there is ours
	}
	return nil, errors.Join(err, p.giveBack(context.WithoutCancel(ctx)))
}

// lock keeps those apart who take or give back a share of one pool. It ends with leave.
func (p *Pool) lock() error {
	err := unix.Flock(int(p.held[0].Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("another process takes or gives back a share of pool %s just now: %w", p.config.Share.PoolName, ErrBusy)
	}
	if err != nil {
		return fmt.Errorf("locking pool %s: %w", p.config.Share.PoolName, err)
	}
	return nil
}

// destroyShare is Destroy for a share. Only deletion is asked for: the blocks go back to the pool.
func destroyShare(ctx context.Context, client *dm.Client, c Config) error {
	p := &Pool{dm: client, config: c, ref: c.Share.ref()}
	defer p.leave()
	if _, err := p.take(ctx); err != nil && !errors.Is(err, ErrInvalid) {
		return fmt.Errorf("giving back the share of pool %s: %w", c.Share.PoolName, err)
	}
	if err := p.letGo(ctx, false); err != nil {
		return fmt.Errorf("giving back the share of pool %s: %w", c.Share.PoolName, err)
	}
	if err := DeactivateAll(ctx, client, c); err != nil {
		return err
	}
	if err := p.lock(); err != nil {
		return err
	}
	return p.giveBack(ctx)
}

// giveBack deletes what is in the share if the mark says that it is ours; the mark last.
func (p *Pool) giveBack(ctx context.Context) error {
	state, err := p.readMark(ctx)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case state == markForeign:
		return fmt.Errorf("the range of numbers from %d of pool %s: %w", p.config.Share.First, p.config.Share.PoolName, ErrForeign)
	}
	all, err := p.allDevices(ctx)
	if err != nil {
		return err
	}
	first, mark := p.config.Share.First, p.config.kernelID(markID)
	for _, d := range all {
		if d.ID < first || d.ID-first >= ShareNumbers || d.ID == mark {
			continue
		}
		if err := p.deleteNumber(ctx, d.ID); err != nil {
			return err
		}
	}
	return p.deleteNumber(ctx, mark)
}

// deleteNumber is Delete by the pool's number.
func (p *Pool) deleteNumber(ctx context.Context, number dm.DeviceID) error {
	if err := p.message(ctx, dm.DeleteMessage(number)); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("deleting number %d of the pool: %w", number, err)
	}
	return nil
}

// ownerPause bounds the wait for an owner who suspends the pool to change its table.
const ownerPause = 10 * time.Second

// paused says whether it is worth trying again to load a thin device's table: the kernel refuses it while the pool is
// suspended (dm-thin.c thin_ctr), which its owner does whenever it grows. It waits for the end of that.
func (p *Pool) paused(ctx context.Context, err error) bool {
	if p.config.Share == nil || !errors.Is(err, unix.EINVAL) {
		return false
	}
	for deadline := time.Now().Add(ownerPause); time.Now().Before(deadline); {
		info, err := p.dm.Info(ctx, p.ref)
		if err != nil || ctx.Err() != nil {
			return false
		}
		if !info.Suspended {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}
