package thinpool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/internal/durable"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// RepairOptions say how Repair works.
type RepairOptions struct {
	// Dir is where the old metadata of a pool on devices are kept, and new ones are built; it needs twice their size. A
	// loopback pool's are kept beside the file.
	Dir string
	// TransactionID is taken where the superblock, which has it, is lost.
	TransactionID dm.TransactionID
	// Say, if set, is told each step before it is done.
	Say func(step string)
}

// Repaired is what Repair found and did.
type Repaired struct {
	// Damage is what thin_check said of the metadata, "" when they were whole.
	Damage string
	// Rebuilt says that new metadata were made of what was found in the old ones, which are kept in the file Kept.
	Rebuilt bool
	Kept    string
	// Before are the thin devices in the old metadata as far as they could be read, After those that there are now.
	Before, After []dm.DeviceID
	// Known says that Before is all of them.
	Known bool
	// Status is the pool's, after it was brought up and before it was taken down again.
	Status Status
}

// Repair checks the metadata of a pool with thin_check, has thin_repair rebuild them where they are damaged, and takes the
// mark off a pool that needed a check. It takes the pool down for that, and leaves it down: while a thin device is open it
// is ErrBusy, and nothing is changed. Old metadata are kept. The new ones take their place in one step, of a file, or
// of a device by a copy that the next Repair finishes if it is cut short. Whether the pool works afterwards is seen by
// opening it.
//
// ErrNoTools without thin-provisioning-tools, ErrNotRepaired if thin_repair finds no whole pool, ErrForeign for metadata
// of another identity, and for somebody else's pool, which its owner repairs.
func Repair(ctx context.Context, client *dm.Client, c Config, o RepairOptions) (Repaired, error) {
	r := repair{config: c, RepairOptions: o}
	if r.Say == nil {
		r.Say = func(string) {}
	}
	err := r.run(ctx, client)
	if err != nil {
		err = fmt.Errorf("repairing pool %s: %w", c.Name, err)
	}
	return r.found, err
}

// repair is one run.
type repair struct {
	RepairOptions
	config Config
	tools  tools
	found  Repaired
}

func (r *repair) run(ctx context.Context, client *dm.Client) (err error) {
	c := r.config
	if err := c.validate(); err != nil {
		return err
	}
	if c.Share != nil {
		return fmt.Errorf("the pool %s is somebody else's, who repairs it (LVM: lvconvert --repair VG/LV): %w", c.PoolName(), ErrForeign)
	}
	if r.tools, err = findTools(); err != nil {
		return err
	}
	p := newPool(client, c)
	r.Say("taking the pool " + c.PoolName() + " down")
	if err := p.deactivateAll(ctx); err != nil {
		return err
	}
	if err := p.Close(ctx); err != nil {
		return err
	}
	if err := r.mend(ctx); err != nil {
		return err
	}
	return r.prove(ctx, client)
}

// mend leaves metadata that thin_check has nothing to say about.
func (r *repair) mend(ctx context.Context) error {
	c := r.config
	if !c.Loopback {
		if done, err := r.finish(); done || err != nil {
			return err
		}
	}
	sb, err := ReadSuperblock(c.Metadata)
	lost := errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotFormatted)
	switch {
	case err != nil && !lost:
		return err
	case !lost && sb.Identity != c.Identity:
		return fmt.Errorf("metadata in %s is of pool %s, not %s: %w", c.Metadata, sb.Identity, c.Identity, ErrForeign)
	}
	if err := unused(c.Metadata); err != nil { // which the tools would take for damage
		return err
	}
	if err := undoTorn(ctx, c.Metadata); err != nil { // thin_check takes it for damage, and it is none
		return err
	}
	r.Say("checking the metadata in " + c.Metadata + " (thin_check)")
	said, err := r.tools.run(ctx, r.tools.check, c.Metadata)
	if errors.Is(err, ErrCorrupt) {
		r.found.Damage = said
		return r.rebuild(ctx, sb, lost)
	}
	if err != nil || !sb.NeedsCheck {
		return err
	}
	r.Say("the metadata are whole: taking the mark off that they need a check (thin_check --clear-needs-check-flag)")
	_, err = r.tools.run(ctx, r.tools.check, "--clear-needs-check-flag", c.Metadata)
	return err
}

// unused is ErrBusy while somebody has a device, as a whole, for himself.
func unused(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s: %w: %w", path, ErrBusy, err)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func (r *repair) dir() string {
	if r.config.Loopback {
		return filepath.Dir(r.config.Metadata)
	}
	return r.Dir
}

func (r *repair) file(suffix string) string { return filepath.Join(r.dir(), "metadata."+suffix) }

// rebuild makes new metadata in a file, proves them, and puts them into the place of the old ones.
func (r *repair) rebuild(ctx context.Context, sb Superblock, lost bool) (err error) {
	c := r.config
	r.found.Before, r.found.Known = devicesIn(ctx, c.Metadata)
	building := r.file("building")
	if err := os.Remove(building); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	data, size, err := c.lengths()
	if err != nil {
		return err
	}
	r.Say(fmt.Sprintf("the metadata are damaged: making new ones in %s (thin_repair)", building))
	if err := makeFile(building, size, true); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(building)))
		}
	}()
	args := []string{"-i", c.Metadata, "-o", building}
	if lost {
		args = append(args, "--transaction-id", fmt.Sprint(r.TransactionID), "--data-block-size", fmt.Sprint(uint64(c.BlockSize)),
			"--nr-data-blocks", fmt.Sprint(data/c.BlockSize.Bytes()))
	}
	if _, err := r.tools.run(ctx, r.tools.repair, args...); err != nil {
		return fmt.Errorf("%w: %w", ErrNotRepaired, err)
	}
	r.Say("checking the new metadata (thin_check)") // thin_repair copies the mark that they need it
	if _, err := r.tools.run(ctx, r.tools.check, "--clear-needs-check-flag", building); err != nil {
		return fmt.Errorf("%w: %w", ErrNotRepaired, err)
	}
	// Of metadata in which it finds nothing thin_repair makes an empty pool.
	if found, known := devicesIn(ctx, building); !known || len(found) == 0 {
		return fmt.Errorf("%w: thin_repair finds no thin device in %s", ErrNotRepaired, c.Metadata)
	}
	if err := setIdentity(building, c.Identity); err != nil {
		return err
	}
	made, err := ReadSuperblock(building)
	if err == nil && (made.BlockSize != c.BlockSize || !lost && made.TransactionID != sb.TransactionID) {
		err = fmt.Errorf("%w: thin_repair gives blocks of %d sectors and transaction %d, not %d and %d", ErrNotRepaired,
			made.BlockSize, made.TransactionID, c.BlockSize, sb.TransactionID)
	}
	if err != nil {
		return err
	}
	return r.install(building)
}

// install puts checked metadata into their place.
func (r *repair) install(building string) error {
	c := r.config
	kept := r.file("damaged-" + time.Now().UTC().Format("20060102T150405.000"))
	r.found.Rebuilt, r.found.Kept = true, kept
	r.Say("keeping the old metadata in " + kept)
	if c.Loopback {
		if err := os.Link(c.Metadata, kept); err != nil {
			return fmt.Errorf("keeping the old metadata: %w", err)
		}
		if err := os.Rename(building, c.Metadata); err != nil {
			return fmt.Errorf("putting the new metadata into their place: %w", err)
		}
		return durable.Dir(r.dir())
	}
	if err := keep(c.Metadata, kept); err != nil {
		return fmt.Errorf("keeping the old metadata: %w", err)
	}
	// From here on the new ones are what counts, however far the copy gets.
	if err := os.Rename(building, r.file("repaired")); err != nil {
		return err
	}
	if err := durable.Dir(r.dir()); err != nil {
		return err
	}
	_, err := r.finish()
	return err
}

// finish copies new metadata onto the device, if there are any.
func (r *repair) finish() (done bool, err error) {
	repaired := r.file("repaired")
	sb, err := ReadSuperblock(repaired)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil && sb.Identity != r.config.Identity {
		err = fmt.Errorf("%s is of pool %s, not %s: %w", repaired, sb.Identity, r.config.Identity, ErrForeign)
	}
	if err != nil {
		return false, err
	}
	r.found.Rebuilt = true
	r.Say("putting the new metadata on " + r.config.Metadata)
	if err := replace(r.config.Metadata, repaired); err != nil {
		return false, fmt.Errorf("putting the new metadata on %s: %w", r.config.Metadata, err)
	}
	return true, errors.Join(os.Remove(repaired), durable.Dir(r.dir()))
}

// replace copies a file onto a device. Until the copy is whole the device has no superblock, so that nobody takes the mix
// for a pool.
func replace(device, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	first := make([]byte, superblockSize)
	if _, err := io.ReadFull(in, first); err != nil {
		return err
	}
	if err := wipeSuperblock(device); err != nil {
		return err
	}
	out, err := os.OpenFile(device, os.O_RDWR|os.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := out.Seek(superblockSize, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return writeBlock0(out, first)
}

// keep copies a device into a new file, durably, without its zeroes.
func keep(device, path string) error {
	in, err := os.Open(device)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := copySparse(out, in); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	if err := out.Sync(); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return durable.Dir(filepath.Dir(path))
}

func copySparse(out *os.File, in io.Reader) error {
	b, at := make([]byte, 1<<20), int64(0)
	for {
		n, err := io.ReadFull(in, b)
		if !isZero(b[:n]) {
			if _, err := out.WriteAt(b[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return out.Truncate(at)
		case err != nil:
			return err
		}
	}
}

// devicesIn reads what devices there are in metadata that may be damaged, and says whether it could.
func devicesIn(ctx context.Context, path string) ([]dm.DeviceID, bool) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	v, err := metadata.Open(f)
	if err != nil {
		return nil, false
	}
	all, err := v.Devices(ctx)
	if err != nil {
		return nil, false
	}
	return idsOf(all), true
}

func idsOf(all []metadata.Device) []dm.DeviceID {
	ids := make([]dm.DeviceID, 0, len(all))
	for _, d := range all {
		ids = append(ids, d.ID)
	}
	return ids
}

// prove brings the pool up to see whether it takes changes, and down again.
func (r *repair) prove(ctx context.Context, client *dm.Client) error {
	r.Say("bringing the pool up to see that it works")
	p, err := Open(ctx, client, r.config)
	if err != nil {
		return err
	}
	r.found.Status, err = p.Commit(ctx)
	if err == nil {
		all, derr := p.Devices(ctx)
		for _, d := range all {
			r.found.After = append(r.found.After, d.ID)
		}
		err = derr
	}
	return errors.Join(err, p.Close(context.WithoutCancel(ctx)))
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
