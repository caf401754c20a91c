package zfs

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/dustin/go-humanize"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/zfsds"
)

// Status reads the dataset's and the pool's state.
func (d *driver) Status(ctx context.Context) (snapshot.Status, error) {
	all, err := d.zfs.Get(ctx, string(d.root))
	if err != nil {
		return snapshot.Status{}, translate(err, "zfs: status")
	}
	name, _, _ := strings.Cut(string(d.root), "/")
	pool, err := d.zfs.Pool(ctx, name)
	if err != nil {
		return snapshot.Status{}, translate(err, "zfs: status")
	}
	problem := problemOf(pool)
	status := snapshot.Status{
		Healthy: problem == "", Problem: problem, Mode: pool.Health,
		Data: snapshot.Space{Total: int64(all.Used + all.Available), Used: int64(all.Used)},
	}
	status.Rows, err = d.rows(all, pool)
	return status, err
}

// Gauge shows what the store's dataset may have: what it has in use and what is available to it. Both move by a little with
// every write of anybody's into the pool, so another total is shown when it is off by a hundredth; what is free is
// as good as the gauge.
func (d *driver) Gauge(ctx context.Context) error {
	all, err := d.zfs.Get(ctx, string(d.root))
	if err != nil {
		return translate(err, "zfs: gauge")
	}
	total := showTotal(d.gauge.Total(), int64(all.Used+all.Available), int64(all.Available))
	return d.gauge.Show(ctx, total, total-int64(all.Available))
}

// showTotal is the total to show in place of shown, the last one.
func showTotal(shown, total, free int64) int64 {
	if off := total - shown; shown >= free && max(off, -off) <= shown/100 {
		return shown
	}
	return total
}

// problemOf says what a person must mend, "" for nothing. What is only freed slowly is none.
func problemOf(p zfsds.Pool) string {
	if p.Health == "ONLINE" {
		return ""
	}
	return fmt.Sprintf("the pool %s is %s: see zpool status -v %s", p.Name, p.Health, p.Name)
}

func size(b zfsds.Bytes) string { return humanize.IBytes(uint64(b)) }

func (d *driver) rows(all zfsds.Details, pool zfsds.Pool) ([]snapshot.Row, error) {
	var rows []snapshot.Row
	row := func(label, format string, args ...any) {
		rows = append(rows, snapshot.Row{Label: label, Value: fmt.Sprintf(format, args...)})
	}
	row("Backing Filesystem", "zfs")
	row("Dataset", "%s", d.root)
	if d.config.Loopback {
		free, occupied, err := d.places.file().Space()
		if err != nil {
			return nil, err
		}
		row("Loopback File", "%s", d.places.image)
		row("Loopback File Occupies", "%s", humanize.IBytes(uint64(occupied)))
		row("Host Space Available", "%s", humanize.IBytes(uint64(max(free, 0))))
	}
	row("Data Space Used", "%s", size(all.Used))
	row("Data Space Total", "%s", size(all.Used+all.Available))
	row("Data Space Available", "%s", size(all.Available))
	if all.Quota > 0 {
		row("Quota", "%s", size(all.Quota))
	}
	row("Pool", "%s, %s", pool.Name, pool.Health)
	row("Pool Size", "%s", size(pool.Size))
	row("Pool Allocated", "%s", size(pool.Allocated))
	row("Pool Fragmentation", "%d %%", pool.Fragmentation)
	row("Deleted And Not Yet Freed", "%s", size(pool.Freeing))
	way, why := d.zfs.Access()
	row("Access", "%s (%s)", way, why)
	return rows, nil
}

// Grow makes the loopback file and its pool larger.
func (d loopDriver) Grow(ctx context.Context, wanted int64) error {
	stat, err := os.Stat(d.places.image)
	if err != nil {
		return err
	}
	if wanted < stat.Size() {
		return fmt.Errorf("zfs: %w: a pool cannot shrink, and %s has %d bytes", snapshot.ErrNotSupported, d.places.image, stat.Size())
	}
	if err := os.Truncate(d.places.image, wanted); err != nil {
		return translate(err, "zfs: grow")
	}
	return translate(d.zfs.GrowPool(ctx, string(d.root), d.places.image), "zfs: grow")
}

// Trim punches holes into the loopback file where the pool has free space. The pool does so by
// itself (autotrim), but for small pieces.
func (d loopDriver) Trim(ctx context.Context) (int64, error) {
	_, before, err := d.places.file().Space()
	if err != nil {
		return 0, err
	}
	// What was freed is used again two transaction groups later, and not trimmed before.
	for range 3 {
		if err := d.zfs.Sync(ctx, string(d.root)); err != nil {
			return 0, translate(err, "zfs: trim")
		}
	}
	if err := d.zfs.TrimPool(ctx, string(d.root)); err != nil {
		return 0, translate(err, "zfs: trim")
	}
	_, after, err := d.places.file().Space()
	return max(before-after, 0), err
}
