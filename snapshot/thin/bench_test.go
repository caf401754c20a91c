package thin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
)

// BenchmarkStore is a container's life through the store, against the driver's
// calls and against the bare ioctls: once with the discard that gives the
// container's blocks back to the host, as the driver does it, and once without.
func BenchmarkStore(b *testing.B) {
	f := factory("ext4")
	f.Floors = map[string]drivertest.Floor{
		"ioctls":            floor(true),
		"ioctls-no-discard": floor(false),
	}
	drivertest.Bench(b, f)
}

// floorDevice keeps the floors' thin devices apart from the store's.
const floorDevice dm.DeviceID = 1 << 21

func floor(discard bool) drivertest.Floor {
	return func(t testing.TB, s *snapshot.Store, layer snapshot.Info, dir string) drivertest.Round {
		c, err := dm.Open(dm.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.Close()) })
		f := bare{c, poolOf(t, c, s), layer, dir, discard}
		first := floorDevice
		if discard {
			first *= 2
		}
		return func(ctx context.Context, i int) error { return f.round(ctx, first+dm.DeviceID(i)) }
	}
}

// poolOf is the number of the store's pool device.
func poolOf(t testing.TB, c *dm.Client, s *snapshot.Store) dm.Number {
	st, err := s.Status(t.Context())
	require.NoError(t, err)
	devices, err := c.List(t.Context(), dm.Prefix{UUID: "BLOCKSTORE-" + strings.ReplaceAll(st.StoreID, "-", "")})
	require.NoError(t, err)
	for _, d := range devices {
		if strings.HasSuffix(d.Name, "-pool") {
			return d.Dev
		}
	}
	t.Fatal("the store has no pool device")
	return dm.Number{}
}

// bare does the kernel's part and keeps no books.
type bare struct {
	c       *dm.Client
	pool    dm.Number
	layer   snapshot.Info
	dir     string
	discard bool
}

func (f bare) message(ctx context.Context, format string, args ...any) error {
	_, err := f.c.Message(ctx, dm.Dev(f.pool), 0, fmt.Sprintf(format, args...))
	return err
}

func (f bare) round(ctx context.Context, id dm.DeviceID) error {
	if err := f.message(ctx, "create_snap %d %d", id, f.layer.Volume.ID); err != nil {
		return err
	}
	err := f.activated(ctx, id, func(path string) error {
		if err := unix.Mount(path, f.dir, "ext4", 0, ""); err != nil {
			return err
		}
		return unix.Unmount(f.dir, 0)
	})
	if err == nil && f.discard {
		err = f.activated(ctx, id, f.discardAll)
	}
	if err != nil {
		return err
	}
	return f.message(ctx, "delete %d", id)
}

func (f bare) activated(ctx context.Context, id dm.DeviceID, use func(path string) error) error {
	name := fmt.Sprintf("bstest-floor-%d", id)
	table := dm.NewTable(dm.Sectors(f.layer.Volume.Size/512), dm.Thin{Pool: f.pool, ID: id})
	info, err := f.c.CreateLoaded(ctx, name, "", table, dm.LoadOptions{})
	if err != nil {
		return err
	}
	err = use(dm.Path(info.Dev))
	_, rerr := f.c.Remove(ctx, dm.Name(name), dm.RemoveOptions{})
	return errors.Join(err, rerr)
}

func (f bare) discardAll(path string) error {
	dev, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(ioctl.BlockDiscard(dev, 0, uint64(f.layer.Volume.Size)), dev.Close())
}
