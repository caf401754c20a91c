package dm_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"blockstore.dev/blockstore/dm"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A bench is a thin pool whose metadata is a device that can be made to fail.
type bench struct {
	*lab
	disk        dm.Number // under the metadata
	slice, pool dm.Info
	target      dm.ThinPool
	thin        dm.Info
}

const benchMetadata = dm.Sectors(8192)

// newBench has 16 data blocks and one thin device of 64 blocks.
func newBench(t *testing.T, change func(*dm.ThinPool)) *bench {
	t.Helper()
	b := &bench{lab: newLab(t)}
	if _, err := b.ProbeTarget(t.Context(), "thin-pool"); err != nil {
		t.Skip("no thin-pool target in this kernel:", err)
	}
	b.disk = loop(t, 4<<20)
	b.slice = b.device("meta", "", dm.NewTable(benchMetadata, dm.Linear{Device: b.disk}))
	b.target = dm.ThinPool{Metadata: b.slice.Dev, Data: loop(t, 1<<20), BlockSize: dm.MinPoolBlock, LowWater: 4}
	if change != nil {
		change(&b.target)
	}
	b.pool = b.device("pool", "", dm.NewTable(2048, b.target))
	require.NoError(t, b.message(b.pool, dm.CreateThinMessage(1)))
	b.thin = b.device("thin", "", dm.NewTable(64*128, dm.Thin{Pool: b.pool.Dev, ID: 1}))
	return b
}

// reload changes a device's table under whoever uses it.
func (b *bench) reload(device dm.Info, table dm.Table) {
	b.t.Helper()
	_, err := b.Load(b.t.Context(), dm.Dev(device.Dev), table, dm.LoadOptions{})
	require.NoError(b.t, err)
	_, err = b.Resume(b.t.Context(), dm.Dev(device.Dev))
	require.NoError(b.t, err)
}

// show logs the kernel's words: that is where testdata/corpus comes from.
func (b *bench) show() {
	b.t.Helper()
	for _, device := range []dm.Info{b.pool, b.thin} {
		_, status, err := b.Status(b.t.Context(), dm.Dev(device.Dev), dm.StatusOptions{NoFlush: true})
		require.NoError(b.t, err)
		_, table, err := b.Table(b.t.Context(), dm.Dev(device.Dev), dm.TableOptions{})
		require.NoError(b.t, err)
		b.t.Logf("corpus %s status %q table %q", status[0].Type, status[0].Params, table[0].Params)
	}
}

func TestKernelPoolOutOfDataSpace(t *testing.T) {
	b := newBench(t, func(p *dm.ThinPool) { p.ErrorIfNoSpace = true })
	node, err := dm.OpenDevice(b.thin.Dev, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC)
	require.NoError(t, err)
	for i := range int64(17) {
		_, err = node.WriteAt(aligned(64<<10), i*64<<10)
	}
	require.ErrorIs(t, err, unix.ENOSPC)
	require.NoError(t, node.Close())
	b.show()
	status := b.status(b.pool)
	require.Equal(t, dm.PoolOutOfDataSpace, status.Mode)
	require.True(t, status.Healthy())
	require.Equal(t, dm.Blocks(16), status.DataUsed)
	require.NoError(t, b.message(b.pool, dm.CreateThinMessage(2)), "messages still work")
}

// TestKernelQueueTimesOut: after no_space_timeout the pool fails what it queued. The event
// says so, and the status no longer shows the policy of the table.
func TestKernelQueueTimesOut(t *testing.T) {
	if os.Getenv("BLOCKSTORE_MACHINE") == "" {
		t.Skip("no machine of our own: no_space_timeout is host-wide")
	}
	b := newBench(t, nil)
	const parameter = "/sys/module/dm_thin_pool/parameters/no_space_timeout"
	require.NoError(t, os.WriteFile(parameter, []byte("1"), 0o600))
	watcher, err := b.Watch(dm.Prefix{Name: b.name("pool")})
	require.NoError(t, err)
	defer watcher.Close()
	node, err := dm.OpenDevice(b.thin.Dev, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC)
	require.NoError(t, err)
	written := make(chan error, 1)
	go func() {
		var err error
		for i := int64(0); i < 17 && err == nil; i++ {
			_, err = node.WriteAt(aligned(64<<10), i*64<<10)
		}
		written <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for status := b.status(b.pool); status.Full != dm.ErrorIfNoSpace; status = b.status(b.pool) {
		_, err := watcher.Next(ctx)
		require.NoError(t, err)
		b.show()
	}
	require.ErrorIs(t, <-written, unix.ENOSPC)
	require.NoError(t, node.Close())
}

func TestKernelPoolNeedsCheck(t *testing.T) {
	b := newBench(t, nil)
	// The superblock can be written, nothing else can.
	b.reload(b.slice, dm.NewTable(8, dm.Linear{Device: b.disk}).
		Append(benchMetadata-8, dm.Flakey{Device: b.disk, Offset: 8, Down: 600, ErrorWrites: true}))
	err := b.message(b.pool, dm.CreateSnapMessage(2, 1))
	b.show()
	status := b.status(b.pool)
	require.NoError(t, err, "the message was rolled back, and yet the kernel reports success")
	require.Equal(t, dm.PoolReadOnly, status.Mode)
	require.True(t, status.NeedsCheck)
	require.False(t, status.Healthy())
	require.ErrorIs(t, b.message(b.pool, dm.CreateThinMessage(3)), unix.EOPNOTSUPP)
	b.reload(b.slice, dm.NewTable(benchMetadata, dm.Linear{Device: b.disk}))
}

func TestKernelPoolReadOnly(t *testing.T) {
	b := newBench(t, func(p *dm.ThinPool) { p.SkipBlockZeroing = true })
	b.show()
	b.target.ReadOnly = true
	b.reload(b.pool, dm.NewTable(2048, b.target))
	b.show()
	require.Equal(t, dm.PoolReadOnly, b.status(b.pool).Mode)
	require.ErrorIs(t, b.message(b.pool, dm.CreateThinMessage(3)), unix.EOPNOTSUPP)
	_, lines, err := b.Table(t.Context(), dm.Dev(b.pool.Dev), dm.TableOptions{})
	require.NoError(t, err)
	table, err := dm.ParseTable(lines)
	require.NoError(t, err)
	require.Equal(t, b.target, table[0].Target)
	b.target.ReadOnly = false
	b.reload(b.pool, dm.NewTable(2048, b.target))
	require.Equal(t, dm.PoolReadWrite, b.status(b.pool).Mode)
}

// TestKernelFailedPool: metadata that fails under the pool shows as Fail, in the pool's
// status, the thin's status and the thin's table.
func TestKernelFailedPool(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	b.reload(b.slice, dm.NewTable(benchMetadata, dm.ErrorTarget{}))
	err := b.message(b.pool, dm.CreateSnapMessage(2, 1))
	t.Log("create_snap without metadata:", err) // success or not: that is why the status is read
	b.show()
	status := b.status(b.pool)
	require.Equal(t, dm.PoolFail, status.Mode)
	require.False(t, status.Healthy())
	state, err := b.ThinStatus(ctx, dm.Dev(b.thin.Dev), dm.StatusOptions{})
	require.NoError(t, err)
	require.Equal(t, dm.ThinFail, state.State)
	_, lines, err := b.Table(ctx, dm.Dev(b.thin.Dev), dm.TableOptions{})
	require.NoError(t, err)
	_, err = dm.ParseTable(lines)
	require.ErrorIs(t, err, dm.ErrFailed)
	require.ErrorIs(t, b.message(b.pool, dm.CreateThinMessage(3)), unix.EOPNOTSUPP)
}

// TestKernelHeldRootAndExternalOrigin shows the remaining words of the grammars.
func TestKernelHeldRootAndExternalOrigin(t *testing.T) {
	b := newBench(t, func(p *dm.ThinPool) { p.IgnoreDiscard = true })
	require.NoError(t, b.message(b.pool, dm.ReserveMetadataSnapMessage))
	b.write(b.thin, 128<<10, 4096)
	b.show()
	require.Equal(t, dm.IgnoreDiscard, b.status(b.pool).Discard)
	origin, err := b.CreateLoaded(t.Context(), b.name("origin"), "", dm.NewTable(128, dm.Zero{}), dm.LoadOptions{ReadOnly: true})
	require.NoError(t, err)
	b.removeLater("origin")
	require.NoError(t, b.message(b.pool, dm.CreateThinMessage(2)))
	want := dm.Thin{Pool: b.pool.Dev, ID: 2, Origin: origin.Dev}
	child := b.device("child", "", dm.NewTable(128, want))
	_, lines, err := b.Table(t.Context(), dm.Dev(child.Dev), dm.TableOptions{})
	require.NoError(t, err)
	table, err := dm.ParseTable(lines)
	require.NoError(t, err)
	require.Equal(t, want, table[0].Target)
	status, err := b.ThinStatus(t.Context(), dm.Dev(child.Dev), dm.StatusOptions{NoFlush: true})
	require.NoError(t, err)
	require.Equal(t, dm.ThinStatus{}, status, "nothing mapped: highest is '-'")
	require.NoError(t, b.message(b.pool, dm.ReleaseMetadataSnapMessage))
}

// TestKernelWatcherFollows: whatever order things happen in, a watcher's view ends up as
// the kernel's.
func TestKernelWatcherFollows(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	watcher, err := l.Watch(dm.Prefix{Name: l.prefix})
	require.NoError(t, err)
	defer watcher.Close()
	go func() {
		for i := range 20 {
			name := l.name([]string{"a", "b", "c"}[i%3])
			if _, err := l.CreateLoaded(ctx, name, "", dm.NewTable(8, dm.Zero{}), dm.LoadOptions{}); err != nil {
				t.Error(err)
			}
			if _, err := l.Remove(ctx, dm.Name(name), dm.RemoveOptions{Wait: time.Minute}); err != nil {
				t.Error(err)
			}
		}
		if _, err := l.Create(ctx, l.name("last"), ""); err != nil {
			t.Error(err)
		}
	}()
	l.removeLater("last")
	known := map[string]bool{}
	for !known[l.name("last")] {
		changes, err := watcher.Next(ctx)
		require.NoError(t, err)
		for _, change := range changes {
			switch change.Kind {
			case dm.Added:
				known[change.Device.Name] = true
			case dm.Removed:
				delete(known, change.Device.Name)
			}
		}
	}
	require.Equal(t, map[string]bool{l.name("last"): true}, known)
}

func aligned(size int) []byte {
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(errors.Join(errors.New("no aligned memory"), err))
	}
	return memory
}
