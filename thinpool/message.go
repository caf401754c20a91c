package thinpool

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
)

const (
	// SnapshotLimit bounds the snapshots in a pool's life. The kernel counts them in a superblock field, time, that
	// it packs into 24 bits of each mapping without looking: beyond, a mapping's block number gets wrong by one bit
	// and devices share blocks that they must not (Linux 6.12, dm-thin-metadata.c pack_block_time). The margin is
	// for those who share the pool or count at the same time.
	SnapshotLimit = 1<<24 - 1<<16
	// SnapshotWarning is where Status begins to warn.
	SnapshotWarning = SnapshotLimit / 2
)

// CreateThin makes an empty thin device, all zero bytes; how large it is says Activate. ErrExists when there is one of
// this number. Durable when it returns.
func (p *Pool) CreateThin(ctx context.Context, id dm.DeviceID) error {
	err := p.config.numbered(id)
	if err == nil {
		err = p.message(ctx, dm.CreateThinMessage(p.config.kernelID(id)))
	}
	if err != nil {
		return fmt.Errorf("creating thin device %d: %w", id, err)
	}
	return nil
}

// SnapshotOptions say what a snapshot is taken of.
type SnapshotOptions struct {
	// Origin is the thin device whose contents are taken.
	Origin dm.DeviceID
	// Quiet is the caller's word that nothing writes to the origin: it is inactive, active read-only, or retired. Without it
	// the origin is looked up and, if it is active, suspended meanwhile: a file system that is mounted from it is
	// frozen and therefore whole in the snapshot.
	Quiet bool
	// Reclaim says that the new number is the caller's, from a reservation that outlives crashes: a device that has
	// it already is a remainder, and is deleted first.
	Reclaim bool
	// Reserve is what must be free in the pool, so that there is room to write to what is there and to delete. Where
	// less is, the snapshot is not kept and the error is ErrNoSpace. It costs no call more.
	Reserve Reserve
}

// Reserve is an amount of free space in bytes. Both are compared with what the pool's last commit left.
type Reserve struct {
	Data, Metadata uint64
}

// Room is nil while the pool has more free than the reserve, else ErrNoSpace with the way out.
func (r Reserve) Room(st Status) error {
	used, total := st.DataBytes()
	if free := total - min(used, total); free < r.Data {
		return fmt.Errorf("%w: %d bytes of its data are free, and %d are kept in reserve: delete something or grow the pool", ErrNoSpace, free, r.Data)
	}
	used, total = st.MetadataBytes()
	if free := total - min(used, total); free < r.Metadata {
		return fmt.Errorf("%w: %d bytes of its metadata are free, and %d are kept in reserve: delete something or grow the pool", ErrNoSpace, free, r.Metadata)
	}
	return nil
}

// CreateSnapshot makes a thin device with the contents of another. Durable when it returns, with all that had been
// written to the origin's device before. ErrNotFound when there is no origin, ErrExists when the number is taken,
// ErrWornOut when the pool has taken SnapshotLimit snapshots.
func (p *Pool) CreateSnapshot(ctx context.Context, id dm.DeviceID, o SnapshotOptions) error {
	err := p.snapshotOnce(ctx, id, o)
	if errors.Is(err, ErrExists) && o.Reclaim {
		if err = p.reclaim(ctx, id); err == nil {
			err = p.snapshotOnce(ctx, id, o)
		}
	}
	if err != nil {
		return fmt.Errorf("creating snapshot %d of thin device %d: %w", id, o.Origin, err)
	}
	return nil
}

func (p *Pool) reclaim(ctx context.Context, id dm.DeviceID) error {
	if err := p.Deactivate(ctx, id); err != nil {
		return err
	}
	return p.Delete(ctx, id)
}

func (p *Pool) snapshotOnce(ctx context.Context, id dm.DeviceID, o SnapshotOptions) error {
	if p.snapshots.Load() >= SnapshotLimit {
		return ErrWornOut
	}
	if err := p.config.numbered(id); err != nil {
		return err
	}
	kernelID, origin := p.config.kernelID(id), p.config.kernelID(o.Origin)
	send := func() error {
		p.snapshots.Add(1)
		st, err := p.messageStatus(ctx, dm.CreateSnapMessage(kernelID, origin))
		if err != nil {
			return err
		}
		if err := o.Reserve.Room(st); err != nil {
			return errors.Join(err, p.message(context.WithoutCancel(ctx), dm.DeleteMessage(kernelID)))
		}
		return nil
	}
	if o.Quiet {
		return send()
	}
	// Of two that find it suspended by the other one, one would resume it under the other.
	defer p.devices.lock(o.Origin)()
	ref := dm.UUID(p.config.ThinUUID(o.Origin))
	info, err := p.dm.Info(ctx, ref)
	if errors.Is(err, dm.ErrNotFound) || err == nil && info.ReadOnly {
		return send()
	}
	if err != nil {
		return err
	}
	return p.suspended(ctx, ref, send)
}

// suspended runs send while the device is suspended and resumes it whatever happens. From the first call to the last
// it stays on one thread and touches no file: this process may have its own files on the device.
func (p *Pool) suspended(ctx context.Context, ref dm.Ref, send func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, err := p.dm.Suspend(ctx, ref, dm.SuspendOptions{}); err != nil {
		return err
	}
	err := send()
	if _, rerr := p.dm.Resume(context.WithoutCancel(ctx), ref); rerr != nil {
		err = errors.Join(err, fmt.Errorf("resuming the origin: %w", rerr))
	}
	return err
}

// Delete removes an inactive thin device; what only it mapped is free for others at once, but is not given back to
// what lies below the pool (see Discard). A device that does not exist is no error. ErrBusy when it is active. While commits
// fail, a device that is there may be taken for one that is not: Commit afterwards, before its removal is relied on.
func (p *Pool) Delete(ctx context.Context, id dm.DeviceID) error {
	err := p.message(ctx, dm.DeleteMessage(p.config.kernelID(id)))
	if err == nil || errors.Is(err, ErrNotFound) {
		return nil
	}
	if errors.Is(err, ErrBusy) {
		err = errors.Join(err, p.busyError(ctx, id))
	}
	return fmt.Errorf("deleting thin device %d: %w", id, err)
}

// SetTransactionID changes the pool's transaction id from one value to another, durably; ErrTransaction when it is not
// at from. ErrForeign when the pool is somebody else's.
func (p *Pool) SetTransactionID(ctx context.Context, from, to dm.TransactionID) error {
	if err := p.own(); err != nil {
		return fmt.Errorf("setting transaction id from %d to %d: %w", from, to, err)
	}
	p.reload.RLock()
	defer p.reload.RUnlock()
	_, err := p.dm.Message(ctx, p.ref, 0, dm.SetTransactionIDMessage(from, to))
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("setting transaction id from %d to %d: %w: %w", from, to, ErrTransaction, err)
	}
	var st dm.ThinPoolStatus
	if err = p.judge(ctx, err, &st); err == nil && st.TransactionID != to {
		err = fmt.Errorf("%w: transaction id is %d", ErrUnknownOutcome, st.TransactionID)
	}
	if err != nil {
		return fmt.Errorf("setting transaction id from %d to %d: %w", from, to, err)
	}
	return nil
}

// ReleaseHeldRoot lets go of a metadata snapshot that somebody held and did not release: while it is held no deleted
// block becomes free. None held is no error. In somebody else's pool it may be theirs: ErrForeign.
func (p *Pool) ReleaseHeldRoot(ctx context.Context) error {
	st, err := p.Status(ctx)
	if err == nil && st.HeldRoot != 0 {
		err = p.own()
	}
	if err == nil && st.HeldRoot != 0 {
		err = p.message(ctx, dm.ReleaseMetadataSnapMessage)
	}
	if err != nil {
		return fmt.Errorf("releasing the held metadata root: %w", err)
	}
	return nil
}

// message sends one message and makes sure that it was kept.
func (p *Pool) message(ctx context.Context, text string) error {
	_, err := p.messageStatus(ctx, text)
	return err
}

// messageStatus is message, and the pool's status after it.
func (p *Pool) messageStatus(ctx context.Context, text string) (Status, error) {
	p.reload.RLock()
	defer p.reload.RUnlock()
	_, err := p.dm.Message(ctx, p.ref, 0, text)
	var st dm.ThinPoolStatus
	err = p.judge(ctx, err, &st)
	return p.statusOf(st), err
}

// judge decides what became of a message. The kernel ends it with a commit whose result it drops; a failed commit
// rolls the change back and leaves the pool read-only or failed (dm-thin.c pool_message, metadata_operation_failed).
// So only a pool that still takes changes has kept the message. A refusal it explains. Between a commit that failed and
// the roll-back the kernel looks for devices in metadata of which a part was not written, and says of some that there is
// none; the pool's mode may lag behind that, so that only a Commit makes sure.
func (p *Pool) judge(ctx context.Context, sent error, st *dm.ThinPoolStatus) error {
	switch {
	case errors.Is(sent, unix.EEXIST):
		return fmt.Errorf("%w: %w", ErrExists, sent)
	case errors.Is(sent, unix.EBUSY):
		return fmt.Errorf("%w: %w", ErrBusy, sent)
	case errors.Is(sent, unix.ENOSPC):
		return fmt.Errorf("%w: %w", ErrNoSpace, sent)
	case sent != nil && !errors.Is(sent, unix.EOPNOTSUPP) && !errors.Is(sent, unix.ENODATA):
		return sent
	}
	var err error
	*st, err = p.dm.ThinPoolStatus(context.WithoutCancel(ctx), p.ref, dm.StatusOptions{NoFlush: true})
	if err == nil {
		err = writable(*st)
	}
	switch {
	case err == nil && errors.Is(sent, unix.ENODATA):
		return fmt.Errorf("%w: %w", ErrNotFound, sent)
	case sent != nil:
		return errors.Join(err, sent)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return nil
}
