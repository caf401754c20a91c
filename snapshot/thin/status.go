package thin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// Usage counts mapped blocks, as of the pool's last commit: Added are those that the volume does not share with its
// origin as that is now, or all of them when the origin is gone. The volume need not be active.
func (d *driver) Usage(ctx context.Context, v snapshot.Volume) (snapshot.Usage, error) {
	all, err := d.Usages(ctx, []snapshot.Volume{v})
	if err != nil {
		return snapshot.Usage{}, err
	}
	return all[0], nil
}

func (d *driver) usage(ctx context.Context, m *metadata.View, v snapshot.Volume) (snapshot.Usage, error) {
	dev, err := m.Device(ctx, d.inMetadata(v.ID))
	if err != nil {
		return snapshot.Usage{}, err
	}
	added := dev.Mapped
	if v.ID != snapshot.Base {
		added, err = addedBlocks(ctx, m, metadata.DeltaOptions{Left: d.inMetadata(v.Origin), Right: dev.ID})
		if errors.Is(err, thinpool.ErrNotFound) {
			added, err = dev.Mapped, nil
		}
	}
	return snapshot.Usage{Added: d.bytes(added), Exact: true}, err
}

// Referenced reads how many blocks each thin device maps.
func (d *driver) Referenced(ctx context.Context, volumes ...snapshot.Volume) ([]int64, error) {
	var all []int64
	err := d.pool.Glance(ctx, func(m *metadata.View) error {
		all = all[:0]
		for _, v := range volumes {
			dev, err := m.Device(ctx, d.inMetadata(v.ID))
			if err != nil {
				return fmt.Errorf("counting what volume %d refers to: %w", v.ID, err)
			}
			all = append(all, d.bytes(dev.Mapped))
		}
		return nil
	})
	if err != nil {
		return nil, translate(err)
	}
	return all, nil
}

func (d *driver) bytes(n dm.Blocks) int64 { return int64(uint64(n) * d.config.Pool.BlockSize.Bytes()) }

// addedBlocks counts what the right device maps and does not share with the left one.
func addedBlocks(ctx context.Context, m *metadata.View, o metadata.DeltaOptions) (dm.Blocks, error) {
	var added dm.Blocks
	for c, err := range m.Delta(ctx, o) {
		if err != nil {
			return 0, err
		}
		if c.Kind != metadata.LeftOnly {
			added += c.Length
		}
	}
	return added, nil
}

// Volumes reads the numbers of all thin devices from the pool's metadata.
func (d *driver) Volumes(ctx context.Context) ([]snapshot.VolumeID, error) {
	all, err := d.pool.Devices(ctx)
	if err != nil {
		return nil, translate(fmt.Errorf("listing volumes: %w", err))
	}
	var ids []snapshot.VolumeID
	for _, t := range all {
		if id := snapshot.VolumeID(t.ID); id >= snapshot.FirstVolumeID {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Check compares the pool's devices with the catalog's volumes and reads the pool's state.
func (d *driver) Check(ctx context.Context, known []snapshot.Volume) ([]snapshot.Finding, error) {
	var found []snapshot.Finding
	st, err := d.pool.Status(ctx)
	if err != nil {
		return nil, translate(err)
	}
	if err := st.Err(); err != nil {
		mend := "see the pool's state in `info`"
		switch {
		case errors.Is(err, thinpool.ErrNeedsCheck), errors.Is(err, thinpool.ErrFailed):
			mend = "`pool repair`"
		case errors.Is(err, thinpool.ErrWornOut):
			mend = "`save` the images, `export` the containers, and `load` and `import` them into a new store"
		}
		found = append(found, snapshot.Finding{Text: err.Error(), Mend: mend})
	}
	all, err := d.pool.Devices(ctx)
	if err != nil && len(found) > 0 {
		return found, nil // the pool's trouble explains it
	}
	if err != nil {
		return nil, translate(fmt.Errorf("listing volumes: %w", err))
	}
	exists := map[snapshot.VolumeID]bool{}
	for _, t := range all {
		exists[snapshot.VolumeID(t.ID)] = true
	}
	if !exists[snapshot.Base] {
		found = append(found, snapshot.Finding{
			Text: "the base volume is missing from the thin pool", Mend: "save what is needed, and make a new store",
		})
	}
	for _, v := range known {
		if !exists[v.ID] {
			found = append(found, snapshot.Finding{
				Volume: v.ID, Text: "volume is missing from the thin pool", Mend: "remove what stands on it, then it; load its image again",
			})
		}
		delete(exists, v.ID)
	}
	for id := range exists {
		if id >= snapshot.FirstVolumeID {
			found = append(found, snapshot.Finding{
				Volume: id, Text: "the thin pool has a device that the catalog does not know", Mend: "`check --repair` makes it a container",
			})
		}
	}
	slices.SortFunc(found, func(a, b snapshot.Finding) int { return int(a.Volume) - int(b.Volume) })
	return found, nil
}

// Epoch is the pool's: its transaction id, unless it is somebody else's.
func (d *driver) Epoch(ctx context.Context) (uint64, error) {
	n, err := d.pool.Epoch(ctx)
	return n, translate(err)
}

// SetEpoch raises it.
func (d *driver) SetEpoch(ctx context.Context, from, to uint64) error {
	return translate(d.pool.SetEpoch(ctx, from, to))
}

// Grow makes the data size bytes large, and the metadata as large as goes with it. On devices, which the store cannot
// grow, size is 0: the pool takes what they have been grown to. LVM's pool of our own group is extended from the group.
func (d *driver) Grow(ctx context.Context, size int64) error {
	if size < 0 {
		return fmt.Errorf("growing to %d bytes: %w", size, snapshot.ErrInvalid)
	}
	if d.config.Pool.Share != nil {
		return translate(d.extendLVM(ctx, snapshot.ExtendOptions{Size: size}))
	}
	if size == 0 && d.config.Pool.Loopback {
		return fmt.Errorf("a loopback file grows to a size that is named: %w", snapshot.ErrInvalid)
	}
	st, err := d.pool.Status(ctx)
	if err != nil {
		return translate(err)
	}
	if _, total := st.DataBytes(); size != 0 && uint64(size) < total {
		return fmt.Errorf("the pool has %d bytes, and a thin pool cannot shrink to %d: %w", total, size, snapshot.ErrNotSupported)
	}
	if want := thinpool.MetadataSizeFor(uint64(size)); d.config.Pool.Loopback {
		if _, have := st.MetadataBytes(); have < want {
			if err := d.pool.GrowMetadata(ctx, want); err != nil {
				return translate(err)
			}
		}
	}
	err = d.pool.GrowData(ctx, uint64(size))
	d.refreshReserve(ctx)
	return translate(err)
}

// Trim has the mounted file systems discard what no file uses. What is not mounted is not looked at.
func (d *driver) Trim(ctx context.Context) (int64, error) {
	active, err := d.pool.Active(ctx)
	if err != nil {
		return 0, translate(err)
	}
	table, err := mount.Table()
	if err != nil {
		return 0, err
	}
	var total int64
	var errs []error
	for _, a := range active {
		i := slices.IndexFunc(table, func(e mount.Entry) bool { return (dm.Number{Major: e.Major, Minor: e.Minor}) == a.Number })
		if a.ReadOnly || i < 0 {
			continue
		}
		n, err := d.trim(table[i].Target)
		total += n
		if err != nil {
			errs = append(errs, fmt.Errorf("trimming %s: %w", table[i].Target, err))
		}
	}
	if len(errs) == 0 && total > 0 {
		// Blocks of this transaction are free for others once it is committed.
		if _, err := d.pool.Commit(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return total, translate(errors.Join(errs...))
}

func (d *driver) trim(dir string) (int64, error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// A deleted file's blocks are free once its deletion is committed to the journal.
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return 0, err
	}
	n, err := ioctl.Trim(f, d.config.Pool.BlockSize.Bytes())
	return int64(n), err
}

// Status reads the pool's state without a commit.
func (d *driver) Status(ctx context.Context) (snapshot.Status, error) {
	st, err := d.pool.Status(ctx)
	if err != nil {
		return snapshot.Status{}, translate(err)
	}
	s := snapshot.Status{Healthy: true, Mode: st.Mode.String(), Snapshots: uint64(st.Snapshots), SnapshotLimit: thinpool.SnapshotLimit}
	if err := st.Err(); err != nil {
		s.Healthy, s.Problem = false, err.Error()
	}
	used, total := st.DataBytes()
	s.Data = snapshot.Space{Total: int64(total), Used: int64(used)}
	mused, mtotal := st.MetadataBytes()
	s.Metadata = snapshot.Space{Total: int64(mtotal), Used: int64(mused)}
	s.Rows = d.rows(st)
	return s, nil
}

// Gauge shows the pool's data space.
func (d *driver) Gauge(ctx context.Context) error {
	st, err := d.pool.Status(ctx)
	if err != nil {
		return translate(err)
	}
	used, total := st.DataBytes()
	return translate(d.gauge.Show(ctx, int64(total), int64(used)))
}

// rows are those that `docker info` shows for its devicemapper driver, and the pool's health.
func (d *driver) rows(st thinpool.Status) []snapshot.Row {
	c := d.config
	used, total := st.DataBytes()
	mused, mtotal := st.MetadataBytes()
	rows := []snapshot.Row{
		{Label: "Pool Name", Value: c.Pool.PoolName()},
		{Label: "Pool Blocksize", Value: humanize.IBytes(c.Pool.BlockSize.Bytes())},
		{Label: "Base Device Size", Value: humanize.IBytes(uint64(c.BaseSize))},
		{Label: "Backing Filesystem", Value: string(c.FileSystem)},
	}
	rows = append(rows, c.backingRows()...)
	rows = append(rows, []snapshot.Row{
		{Label: "Data Space Used", Value: humanize.IBytes(used)},
		{Label: "Data Space Total", Value: humanize.IBytes(total)},
		{Label: "Data Space Available", Value: humanize.IBytes(total - min(used, total))},
		{Label: "Metadata Space Used", Value: humanize.IBytes(mused)},
		{Label: "Metadata Space Total", Value: humanize.IBytes(mtotal)},
		{Label: "Metadata Space Available", Value: humanize.IBytes(mtotal - min(mused, mtotal))},
		{Label: "Pool Mode", Value: st.Mode.String()},
		{Label: "When Full", Value: st.Full.String()},
		{Label: "Discard", Value: st.Discard.String()},
		{Label: "Transaction Id", Value: fmt.Sprint(st.TransactionID)},
		{Label: "Snapshots Taken", Value: fmt.Sprintf("%d of %d in the pool's life", st.Snapshots, thinpool.SnapshotLimit)},
		{Label: "Deferred Removal Enabled", Value: "true"},
	}...)
	if st.Snapshots >= thinpool.SnapshotWarning {
		rows = append(rows, snapshot.Row{Label: "WARNING", Value: "more than half of the pool's snapshots are used up: plan a move to a new pool"})
	}
	return rows
}
