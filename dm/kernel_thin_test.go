package dm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"blockstore.dev/blockstore/dm"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func mkfs(t *testing.T, node string) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "/usr/sbin/mkfs.ext4", "-q", "-F", node).CombinedOutput()
	require.NoError(t, err, "%s", output)
}

// pool makes a thin pool of 512 blocks of 64 KiB on two loop devices.
func (l *lab) pool(change func(*dm.ThinPool)) (dm.Info, dm.ThinPool) {
	l.t.Helper()
	if _, err := l.ProbeTarget(l.t.Context(), "thin-pool"); err != nil {
		l.t.Skip("no thin-pool target in this kernel:", err)
	}
	target := dm.ThinPool{Metadata: loop(l.t, 4<<20), Data: loop(l.t, 32<<20), BlockSize: dm.MinPoolBlock, LowWater: 64}
	if change != nil {
		change(&target)
	}
	info := l.device("pool", "BSTEST-"+l.name("pool"), dm.NewTable(dm.SectorsOf(32<<20), target))
	return info, target
}

func (l *lab) message(pool dm.Info, text string) error {
	_, err := l.Message(l.t.Context(), dm.Dev(pool.Dev), 0, text)
	return err
}

func (l *lab) status(pool dm.Info) dm.ThinPoolStatus {
	l.t.Helper()
	status, err := l.ThinPoolStatus(l.t.Context(), dm.Dev(pool.Dev), dm.StatusOptions{})
	require.NoError(l.t, err)
	return status
}

func TestKernelThinPool(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	pool, target := l.pool(func(p *dm.ThinPool) { p.ErrorIfNoSpace = true; p.NoDiscardPassdown = true })
	_, lines, err := l.Table(ctx, dm.Dev(pool.Dev), dm.TableOptions{})
	require.NoError(t, err)
	table, err := dm.ParseTable(lines)
	require.NoError(t, err)
	require.Equal(t, target, table[0].Target)

	status := l.status(pool)
	require.True(t, status.Healthy())
	require.Equal(t, dm.Blocks(512), status.DataTotal)
	require.Zero(t, status.DataUsed)
	require.Equal(t, dm.ErrorIfNoSpace, status.Full)
	require.Equal(t, dm.NoDiscardPassdown, status.Discard)
	require.NotNil(t, status.MetadataLowWater)

	require.NoError(t, l.message(pool, dm.CreateThinMessage(1)))
	require.ErrorIs(t, l.message(pool, dm.CreateThinMessage(1)), dm.ErrExists)
	require.ErrorIs(t, l.message(pool, dm.CreateThinMessage(dm.MaxDeviceID+1)), unix.EINVAL)
	thin := dm.Thin{Pool: pool.Dev, ID: 1}
	one := l.device("one", "", dm.NewTable(2048, thin))
	l.write(one, 0, 100<<10)
	l.checkThin(one, thin)

	require.NoError(t, l.message(pool, dm.CreateSnapMessage(2, 1)))
	require.ErrorIs(t, l.message(pool, dm.CreateSnapMessage(3, 9)), unix.ENODATA)
	require.ErrorIs(t, l.message(pool, dm.DeleteMessage(1)), dm.ErrBusy)
	require.NoError(t, l.message(pool, dm.DeleteMessage(2)))
	require.ErrorIs(t, l.message(pool, dm.DeleteMessage(2)), unix.ENODATA)
	require.NoError(t, l.message(pool, dm.SetTransactionIDMessage(0, 7)))
	require.ErrorIs(t, l.message(pool, dm.SetTransactionIDMessage(0, 8)), unix.EINVAL)
	require.NoError(t, l.message(pool, dm.ReserveMetadataSnapMessage))
	require.ErrorIs(t, l.message(pool, dm.ReserveMetadataSnapMessage), dm.ErrBusy)
	status = l.status(pool)
	require.NotZero(t, status.HeldRoot)
	require.Equal(t, dm.TransactionID(7), status.TransactionID)
	require.NoError(t, l.message(pool, dm.ReleaseMetadataSnapMessage))
	require.ErrorIs(t, l.message(pool, dm.ReleaseMetadataSnapMessage), unix.EINVAL)
}

// checkThin: the first two blocks are mapped and the table is what was loaded.
func (l *lab) checkThin(device dm.Info, want dm.Thin) {
	l.t.Helper()
	status, err := l.ThinStatus(l.t.Context(), dm.Dev(device.Dev), dm.StatusOptions{})
	require.NoError(l.t, err)
	require.Equal(l.t, dm.Sectors(256), status.Mapped)
	require.Equal(l.t, dm.Sectors(255), *status.Highest)
	_, lines, err := l.Table(l.t.Context(), dm.Dev(device.Dev), dm.TableOptions{})
	require.NoError(l.t, err)
	table, err := dm.ParseTable(lines)
	require.NoError(l.t, err)
	require.Equal(l.t, want, table[0].Target)
	_, err = l.ThinPoolStatus(l.t.Context(), dm.Dev(device.Dev), dm.StatusOptions{})
	require.ErrorIs(l.t, err, dm.ErrSyntax, "a thin device is no pool")
}

// write writes size bytes from an offset on and waits until they are durable.
func (l *lab) write(device dm.Info, offset int64, size int) {
	l.t.Helper()
	node, err := dm.OpenDevice(device.Dev, os.O_RDWR)
	require.NoError(l.t, err)
	_, err = node.WriteAt([]byte(strings.Repeat("y", size)), offset)
	require.NoError(l.t, err)
	require.NoError(l.t, node.Sync())
	require.NoError(l.t, node.Close())
}

// TestKernelPoolEvent: crossing the low-water mark wakes a watcher that waits.
func TestKernelPoolEvent(t *testing.T) {
	l := newLab(t)
	pool, _ := l.pool(nil)
	require.NoError(t, l.message(pool, dm.CreateThinMessage(1)))
	thin := l.device("thin", "", dm.NewTable(65536, dm.Thin{Pool: pool.Dev, ID: 1}))
	watcher, err := l.Watch(dm.Prefix{UUID: "BSTEST-" + l.prefix})
	require.NoError(t, err)
	defer watcher.Close()
	changes, err := watcher.Next(t.Context())
	require.NoError(t, err)
	require.Len(t, changes, 1)
	require.Equal(t, dm.Added, changes[0].Kind)

	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = watcher.Next(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events := make(chan dm.Change, 1)
	failed := make(chan error, 1)
	go func() {
		changes, err := watcher.Next(ctx)
		if err != nil {
			failed <- err
			return
		}
		events <- changes[0]
	}()
	l.write(thin, 0, 30<<20) // 480 of 512 blocks: below the mark of 64 free
	select {
	case change := <-events:
		require.Equal(t, dm.Event, change.Kind)
		require.Equal(t, pool.Dev, change.Device.Dev)
		require.Greater(t, change.Device.EventNr, change.Previous.EventNr)
	case err := <-failed:
		require.NoError(t, err)
	}
	require.NoError(t, watcher.Close())
	_, err = watcher.Next(t.Context())
	require.ErrorIs(t, err, dm.ErrClosed)
}

// TestKernelAgreesWithDmsetup: the reference tool reads the same of our devices.
func TestKernelAgreesWithDmsetup(t *testing.T) {
	l := newLab(t)
	dmsetup, err := exec.LookPath("dmsetup")
	if err != nil {
		t.Skip("no dmsetup")
	}
	pool, _ := l.pool(func(p *dm.ThinPool) { p.ErrorIfNoSpace = true })
	require.NoError(t, l.message(pool, dm.CreateThinMessage(1)))
	thin := l.device("thin", "BSTEST-"+l.name("thin"), dm.NewTable(2048, dm.Thin{Pool: pool.Dev, ID: 1}).Append(8, dm.Zero{}))
	run := func(args ...string) string {
		output, err := exec.CommandContext(t.Context(), dmsetup, args...).Output()
		require.NoError(t, err, "dmsetup %v", args)
		return canonicalLines(string(output))
	}
	for _, device := range []dm.Info{pool, thin} {
		_, table, err := l.Table(t.Context(), dm.Dev(device.Dev), dm.TableOptions{})
		require.NoError(t, err)
		require.Equal(t, run("table", device.Name), joinLines(table))
		_, status, err := l.Status(t.Context(), dm.Dev(device.Dev), dm.StatusOptions{NoFlush: true})
		require.NoError(t, err)
		require.Equal(t, run("status", "--noflush", device.Name), joinLines(status))
		info, err := l.Info(t.Context(), dm.Name(device.Name))
		require.NoError(t, err)
		want := fmt.Sprintf("%s:%s:%d:%d:%d:%d:%d", info.Name, info.UUID, info.Dev.Major, info.Dev.Minor,
			info.OpenCount, info.Targets, info.EventNr)
		require.Equal(t, run("info", "-c", "--noheadings", "-o", "name,uuid,major,minor,open,segments,events", device.Name), want)
	}
	deps, err := l.Deps(t.Context(), dm.Dev(thin.Dev))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("1 dependencies : (%d, %d)", deps[0].Major, deps[0].Minor), run("deps", thin.Name))
}

func joinLines(lines []dm.Line) string {
	var text []string
	for _, line := range lines {
		text = append(text, line.String())
	}
	return canonicalLines(strings.Join(text, "\n"))
}

// canonicalLines drops the spaces that end lines.
func canonicalLines(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

// TestKernelTargetsReadBack loads each typed target and reads it back through its parser.
func TestKernelTargetsReadBack(t *testing.T) {
	l := newLab(t)
	a, b := loop(t, 4<<20), loop(t, 4<<20)
	flakey := dm.Flakey{Device: a, Offset: 8, Up: 60, Down: 1}
	with := func(change func(*dm.Flakey)) dm.Flakey {
		f := flakey
		change(&f)
		return f
	}
	path := dm.DelayPath{Device: a, Offset: 0, Delay: 5}
	for name, target := range map[string]dm.Target{
		"linear":         dm.Linear{Device: a, Offset: 16},
		"striped":        dm.Striped{Chunk: 16, Stripes: []dm.Linear{{Device: a}, {Device: b, Offset: 64}}},
		"zero":           dm.Zero{},
		"error":          dm.ErrorTarget{},
		"log-writes":     dm.LogWrites{Device: a, Log: b},
		"delay":          dm.Delay{Read: path},
		"delay write":    dm.Delay{Read: path, Write: &dm.DelayPath{Device: b, Offset: 8, Delay: 7}},
		"delay flush":    dm.Delay{Read: path, Write: &path, Flush: &dm.DelayPath{Device: b, Delay: 9}},
		"flakey errors":  with(func(f *dm.Flakey) { f.ErrorReads, f.ErrorWrites = true, true }),
		"flakey writes":  with(func(f *dm.Flakey) { f.ErrorWrites = true }),
		"flakey drop":    with(func(f *dm.Flakey) { f.DropWrites = true }),
		"flakey corrupt": with(func(f *dm.Flakey) { f.Corrupt = &dm.CorruptByte{Nth: 32, Value: 1} }),
		"flakey random":  with(func(f *dm.Flakey) { f.RandomReadCorrupt, f.RandomWriteCorrupt = 5, 1000000000 }),
	} {
		t.Run(name, func(t *testing.T) {
			version, err := l.ProbeTarget(t.Context(), target.Type())
			if err != nil {
				t.Skip("no target in this kernel:", err)
			}
			t.Log(target.Type(), version)
			info, err := l.CreateLoaded(t.Context(), l.name("target"), "", dm.NewTable(1024, target), dm.LoadOptions{})
			if newer := name == "flakey errors" || name == "flakey random"; newer && errors.Is(err, unix.EINVAL) {
				t.Skip("no such feature in this kernel's flakey (Linux 6.1 has neither error_reads nor random corruption)")
			}
			require.NoError(t, err)
			_, lines, err := l.Table(t.Context(), dm.Dev(info.Dev), dm.TableOptions{})
			require.NoError(t, err)
			_, status, err := l.Status(t.Context(), dm.Dev(info.Dev), dm.StatusOptions{})
			require.NoError(t, err)
			_, err = l.Remove(t.Context(), dm.Dev(info.Dev), dm.RemoveOptions{})
			require.NoError(t, err)
			t.Logf("table %q, status %q", lines[0].Params, status[0].Params)
			table, err := dm.ParseTable(lines)
			require.NoError(t, err)
			require.Equal(t, target, table[0].Target)
			if target.Type() == "log-writes" {
				read, err := dm.ParseLogWritesStatus(status[0].Params)
				require.NoError(t, err)
				require.Equal(t, strings.TrimSpace(status[0].Params), read.String())
			}
		})
	}
}
