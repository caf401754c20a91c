package thinpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool/metadata"
)

const (
	// heldWait is how long Metadata waits for another process that holds the pool's metadata snapshot.
	heldWait = 10 * time.Second
	// heldPoll is how often it looks.
	heldPoll = 20 * time.Millisecond
)

// ErrTaken: somebody else released the metadata snapshot while it was read; some monitors release what they find. What
// was read may be wrong: ask again.
var ErrTaken = errors.New("the metadata snapshot was released by somebody else")

// Metadata commits, has the kernel hold the metadata as they are, calls use with a view of them, and lets them go again
// whatever use does. The view is consistent, however busy the pool is, and void when use returns. While it is held no
// deleted block becomes free, so use should be quick; it must not close the pool.
//
// A pool has one such snapshot. Calls in this process wait for each other; for another process that holds it, 10
// seconds, and then it is ErrBusy. ErrTaken, and nothing of use's, when somebody released it meanwhile. Of a read-only
// pool, which can hold none and does not change, the view is of the last commit. A process that is killed meanwhile
// leaves it held, and a mark that it did: the next Open releases it.
func (p *Pool) Metadata(ctx context.Context, use func(*metadata.View) error) error {
	p.reading.Lock()
	defer p.reading.Unlock()
	if err := p.readMetadata(ctx, use); err != nil {
		return fmt.Errorf("reading metadata of pool %s: %w", p.config.Name, err)
	}
	return nil
}

// ReadMetadata is Pool.Metadata for any active thin pool, LVM's for example. If the process is killed meanwhile the
// metadata snapshot stays held; the error of the next call says how to release it.
func ReadMetadata(ctx context.Context, client *dm.Client, pool dm.Ref, use func(*metadata.View) error) error {
	p := Pool{dm: client, ref: pool, config: Config{Name: pool.String()}}
	return p.Metadata(ctx, use)
}

func (p *Pool) readMetadata(ctx context.Context, use func(*metadata.View) error) (err error) {
	path, _, err := p.metadataDevice(ctx)
	if err != nil {
		return err
	}
	r, err := openDirect(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	err = p.hold(ctx)
	if errors.Is(err, ErrReadOnly) {
		// It takes no message and makes no commit: the metadata stand still.
		v, err := metadata.Open(r)
		if err != nil {
			return err
		}
		return use(v)
	}
	if err != nil {
		return err
	}
	return p.readHeld(ctx, r, use)
}

// metadataDevice is the pool's metadata device, by its node and its number.
func (p *Pool) metadataDevice(ctx context.Context) (string, dm.Number, error) {
	number, _, err := p.poolDevices(ctx)
	if err != nil {
		return "", dm.Number{}, err
	}
	path, err := blockDevicePath(number)
	return path, number, err
}

// poolDevices are the devices that the pool's table names.
func (p *Pool) poolDevices(ctx context.Context) (metadata, data dm.Number, err error) {
	_, lines, err := p.dm.Table(ctx, p.ref, dm.TableOptions{})
	if err != nil {
		return dm.Number{}, dm.Number{}, err
	}
	table, err := dm.ParseTable(lines)
	if err != nil {
		return dm.Number{}, dm.Number{}, err
	}
	if len(table) == 1 {
		if target, ok := table[0].Target.(dm.ThinPool); ok {
			return target.Metadata, target.Data, nil
		}
	}
	return dm.Number{}, dm.Number{}, fmt.Errorf("device %s is no thin pool: %w", p.ref, ErrInvalid)
}

// hold reserves the metadata snapshot once nobody else has it.
func (p *Pool) hold(ctx context.Context) error {
	for deadline := time.Now().Add(heldWait); ; {
		st, err := p.dm.ThinPoolStatus(ctx, p.ref, dm.StatusOptions{NoFlush: true})
		if err == nil {
			err = writable(st)
		}
		if err != nil {
			return err
		}
		if st.HeldRoot == 0 {
			if err = p.reserve(ctx); !errors.Is(err, ErrBusy) {
				return err
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: another process has held the metadata snapshot for %s; if it has died: dmsetup message %s 0 %s",
				ErrBusy, heldWait, p.ref, dm.ReleaseMetadataSnapMessage)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(heldPoll):
		}
	}
}

// reserve marks first: a process that dies behind the message has left the mark.
func (p *Pool) reserve(ctx context.Context) error {
	if err := p.loseNote(); err != nil {
		return err
	}
	if err := p.mark(ctx); err != nil {
		return err
	}
	if err := p.message(ctx, dm.ReserveMetadataSnapMessage); err != nil {
		return errors.Join(err, p.unmark(ctx))
	}
	return nil
}

// readHeld uses what is held, makes sure that it was to the end, and releases it: also when use panics.
func (p *Pool) readHeld(ctx context.Context, r *directReader, use func(*metadata.View) error) (err error) {
	after := context.WithoutCancel(ctx)
	var v *metadata.View
	defer func() {
		if v != nil {
			if err = p.stillHeld(after, r, v, err); errors.Is(err, ErrTaken) {
				err = errors.Join(err, p.unmark(after))
				return
			}
		}
		err = errors.Join(err, p.message(after, dm.ReleaseMetadataSnapMessage), p.unmark(after))
	}()
	if v, err = metadata.OpenHeld(r); err != nil {
		return err
	}
	return use(v)
}

// stillHeld makes sure that the pool holds what v was read from; else nothing that was seen counts.
func (p *Pool) stillHeld(ctx context.Context, r *directReader, v *metadata.View, seen error) error {
	st, err := p.dm.ThinPoolStatus(ctx, p.ref, dm.StatusOptions{NoFlush: true})
	if err != nil {
		return errors.Join(seen, err)
	}
	if st.HeldRoot != v.Superblock().HeldRoot {
		return ErrTaken
	}
	r.forget()
	now, err := metadata.OpenHeld(r)
	if err != nil || now.Superblock() != v.Superblock() {
		return ErrTaken
	}
	return seen
}

// The mark is a device of the pool's without a table, and so without a node, which lives as long as the kernel and not
// as long as the process: while it exists the metadata snapshot is ours.

func (c Config) markName() string { return c.Name + "-reading" }

func (c Config) markUUID() string { return c.UUIDPrefix() + "reading" }

// mark does nothing on pools of others. One that is there is a remainder: Metadata runs once at a time.
func (p *Pool) mark(ctx context.Context) error {
	if p.config.Identity == uuid.Nil {
		return nil
	}
	_, err := p.dm.Create(ctx, p.config.markName(), p.config.markUUID())
	if errors.Is(err, dm.ErrExists) {
		return nil
	}
	return err
}

func (p *Pool) unmark(ctx context.Context) error {
	if p.config.Identity == uuid.Nil {
		return nil
	}
	_, err := p.dm.Remove(context.WithoutCancel(ctx), dm.UUID(p.config.markUUID()), dm.RemoveOptions{})
	if errors.Is(err, dm.ErrNotFound) {
		return nil
	}
	return err
}

// letGo releases the metadata snapshot that a dead process left held: one that is marked. One without the mark is left
// to whoever took it, unless the pool was down until now, which nobody's reading outlives.
func (p *Pool) letGo(ctx context.Context, wasDown bool) error {
	marked := true
	if _, err := p.dm.Info(ctx, dm.UUID(p.config.markUUID())); errors.Is(err, dm.ErrNotFound) {
		marked = false
	} else if err != nil {
		return err
	}
	st, err := p.Status(ctx)
	if err != nil || writable(st.ThinPoolStatus) != nil { // it cannot be released now
		return err
	}
	if st.HeldRoot != 0 && (marked || wasDown) {
		if err := p.message(ctx, dm.ReleaseMetadataSnapMessage); err != nil {
			return err
		}
	}
	if marked {
		return p.unmark(ctx)
	}
	return nil
}
