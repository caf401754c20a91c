package thinpool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/thinpool"
)

// contextOf is for clean-up, when the test's own context has ended.
func contextOf() context.Context { return context.Background() }

func TestPoolCreateCloseOpenKeepsEverything(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	c := p.Config()
	require.NotEqual(t, uuid.Nil, c.Identity)
	require.GreaterOrEqual(t, w.allocated(c.Metadata), int64(4<<20), "metadata is fully allocated")
	require.Less(t, w.allocated(c.Data), int64(1<<20), "data is sparse")
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.NoError(t, st.Err())
	require.EqualValues(t, 1024, st.DataTotal)
	require.EqualValues(t, 1024, st.MetadataTotal)
	require.Equal(t, dm.ErrorIfNoSpace, st.Full)

	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	require.NoError(t, w.fill(f, 3, 2, 'x'))
	require.ErrorIs(t, p.Close(t.Context()), thinpool.ErrBusy)
	require.NoError(t, f.Close())
	require.NoError(t, p.Deactivate(t.Context(), 1))
	require.NoError(t, p.SetTransactionID(t.Context(), 0, 7))
	require.ErrorIs(t, p.SetTransactionID(t.Context(), 0, 8), thinpool.ErrTransaction)
	require.NoError(t, p.Close(t.Context()))
	_, err = ioctl.FindLoop(c.Data)
	require.ErrorIs(t, err, ioctl.ErrLoopNotFound, "loop devices go with the pool")

	kept, err := json.Marshal(c)
	require.NoError(t, err)
	var again thinpool.Config
	require.NoError(t, json.Unmarshal(kept, &again))
	p, err = thinpool.Open(t.Context(), w.dm, again)
	require.NoError(t, err)
	st, err = p.Status(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 7, st.TransactionID)
	require.EqualValues(t, 2, st.DataUsed)
	f = w.activate(p, 1)
	require.Equal(t, byte('x'), w.first(f, 4))
	require.Equal(t, byte(0), w.first(f, 5))
	require.NoError(t, f.Close())
}

func TestOpenRefusesWhatIsNotThePool(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	c := p.Config()
	require.NoError(t, p.Close(t.Context()))
	block0 := readBlock(t, c.Metadata)
	open := func(c thinpool.Config) error {
		_, err := thinpool.Open(t.Context(), w.dm, c)
		return err
	}
	other := c
	other.Identity = uuid.New()
	require.ErrorIs(t, open(other), thinpool.ErrForeign)
	other = c
	other.BlockSize *= 2
	require.ErrorIs(t, open(other), thinpool.ErrCorrupt)

	writeBlock(t, c.Metadata, make([]byte, 4096))
	require.ErrorIs(t, open(c), thinpool.ErrNotFormatted, "a zeroed superblock must not be formatted")
	require.Equal(t, make([]byte, 4096), readBlock(t, c.Metadata))
	flipped := bytes.Clone(block0)
	flipped[400] ^= 1
	writeBlock(t, c.Metadata, flipped)
	require.ErrorIs(t, open(c), thinpool.ErrCorrupt)
	writeBlock(t, c.Metadata, block0)
	require.NoError(t, os.Truncate(c.Data, 32<<20))
	require.ErrorIs(t, open(c), thinpool.ErrCorrupt, "data smaller than the pool")
	require.NoError(t, os.Truncate(c.Data, 64<<20))
	require.NoError(t, open(c))
}

func readBlock(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 4096)
	_, err = f.ReadAt(b, 0)
	require.NoError(t, err)
	return b
}

func writeBlock(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt(b, 0)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
}

func TestCreateRefusesFilesThatExist(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	require.NoError(t, os.WriteFile(o.Metadata, []byte("somebody's"), 0o600))
	_, err := thinpool.Create(t.Context(), w.dm, o)
	require.ErrorIs(t, err, os.ErrExist)
	b, err := os.ReadFile(o.Metadata)
	require.NoError(t, err)
	require.Equal(t, "somebody's", string(b))
	require.NoFileExists(t, o.Data)
}

func TestCreateRefusesAForeignDeviceOfTheName(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	name := o.PoolName()
	_, err := w.dm.CreateLoaded(t.Context(), name, "SOMEBODY-1", dm.NewTable(8, dm.Zero{}), dm.LoadOptions{})
	require.NoError(t, err)
	_, err = thinpool.Create(t.Context(), w.dm, o)
	require.ErrorIs(t, err, thinpool.ErrForeign)
	require.NoFileExists(t, o.Data, "a failed creation leaves nothing")
	_, err = w.dm.Remove(t.Context(), dm.Name(name), dm.RemoveOptions{})
	require.NoError(t, err)
}

// TestOpenAfterProcessDeath leaves the kernel as a killed process would: pool and thin devices active, one suspended,
// one without a table, the pool itself suspended.
func TestOpenAfterProcessDeath(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	c := p.Config()
	for id := range dm.DeviceID(3) {
		require.NoError(t, p.CreateThin(t.Context(), id))
	}
	f := w.activate(p, 0)
	require.NoError(t, w.fill(f, 0, 1, 'a'))
	w.activate(p, 1).Close()
	_, err := w.dm.Suspend(t.Context(), dm.UUID(c.ThinUUID(0)), dm.SuspendOptions{})
	require.NoError(t, err)
	_, err = w.dm.Suspend(t.Context(), dm.UUID(c.PoolUUID()), dm.SuspendOptions{})
	require.NoError(t, err)
	_, err = w.dm.Create(t.Context(), c.ThinName(2), c.ThinUUID(2))
	require.NoError(t, err)

	again, err := thinpool.Open(t.Context(), w.dm, c)
	require.NoError(t, err)
	require.Equal(t, p.Number(), again.Number(), "the pool is taken over, not made anew")
	require.Equal(t, byte('a'), w.first(f, 0), "the suspended device answers")
	require.NoError(t, w.fill(f, 1, 1, 'b'))
	active, err := again.Active(t.Context())
	require.NoError(t, err)
	require.Len(t, active, 2)
	_, err = w.dm.Info(t.Context(), dm.UUID(c.ThinUUID(2)))
	require.ErrorIs(t, err, dm.ErrNotFound, "a device without a table goes")
	st, err := again.Status(t.Context())
	require.NoError(t, err)
	require.NoError(t, st.Err())
	require.NoError(t, again.CreateThin(t.Context(), 9))
	require.ErrorIs(t, thinpool.Destroy(t.Context(), w.dm, c), thinpool.ErrBusy, "a device is open")
	require.FileExists(t, c.Data)
	require.NoError(t, f.Close())
}

func TestGrow(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	c := p.Config()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	require.NoError(t, w.fill(f, 0, 4, 'q'))
	require.NoError(t, p.GrowData(t.Context(), 128<<20))
	require.NoError(t, p.GrowMetadata(t.Context(), 8<<20))
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2048, st.DataTotal)
	require.EqualValues(t, 2048, st.MetadataTotal)
	require.GreaterOrEqual(t, w.allocated(c.Metadata), int64(8<<20))
	require.ErrorIs(t, p.GrowData(t.Context(), 64<<20), thinpool.ErrInvalid)
	require.ErrorIs(t, p.GrowMetadata(t.Context(), thinpool.MaxMetadataSize+1), thinpool.ErrInvalid)
	require.Equal(t, byte('q'), w.first(f, 3))
	require.NoError(t, f.Close())
	require.NoError(t, p.Deactivate(t.Context(), 1))
	require.NoError(t, p.Close(t.Context()))
	p, err = thinpool.Open(t.Context(), w.dm, c)
	require.NoError(t, err)
	st, err = p.Status(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2048, st.DataTotal)
}

func TestFullPoolFailsQuicklyAndComesBack(t *testing.T) {
	w := newWorld(t)
	p := w.pool(func(o *thinpool.CreateOptions) { o.DataSize = 8 << 20 })
	require.NoError(t, p.CreateThin(t.Context(), 1))
	require.NoError(t, p.CreateThin(t.Context(), 2))
	f, g := w.activate(p, 1), w.activate(p, 2)
	require.NoError(t, w.fill(f, 0, 100, 'f'))
	require.NoError(t, w.fill(g, 0, 8, 'g'))
	err := w.fill(g, 8, 40, 'g')
	require.ErrorIs(t, err, unix.ENOSPC)
	st, err := p.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, dm.PoolOutOfDataSpace, st.Mode)
	require.ErrorIs(t, st.Err(), thinpool.ErrNoSpace)
	require.NoError(t, w.fill(f, 0, 1, 'h'), "blocks that are there can be written")

	require.NoError(t, p.CreateSnapshot(t.Context(), 3, thinpool.SnapshotOptions{Origin: 1}), "a full pool takes messages")
	require.NoError(t, p.Delete(t.Context(), 3))
	require.NoError(t, f.Close())
	require.NoError(t, p.Deactivate(t.Context(), 1))
	require.NoError(t, p.Delete(t.Context(), 1))
	st, err = p.Status(t.Context())
	require.NoError(t, err)
	require.NoError(t, st.Err(), "deleting brings it back")
	require.NoError(t, w.fill(g, 8, 40, 'g'))

	require.ErrorIs(t, w.fill(g, 48, 200, 'g'), unix.ENOSPC)
	require.NoError(t, p.GrowData(t.Context(), 32<<20))
	st, err = p.Status(t.Context())
	require.NoError(t, err)
	require.NoError(t, st.Err(), "growing brings it back")
	require.NoError(t, w.fill(g, 48, 200, 'g'))
	require.NoError(t, g.Close())
}

func TestRawDevices(t *testing.T) {
	w := newWorld(t)
	var paths []string
	for _, name := range []string{"a", "b", "c"} {
		path := w.dir + "/" + name
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Truncate(path, 32<<20))
		l, err := ioctl.AttachLoop(t.Context(), path, ioctl.LoopOptions{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, l.Detach()) })
		paths = append(paths, l.Path())
	}
	o := thinpool.CreateOptions{Config: thinpool.Config{Name: "bstest-raw", Data: paths[0], Metadata: paths[1]}}
	writeBlock(t, paths[0], append(append(make([]byte, 1024+56), 0x53, 0xef), make([]byte, 4096-1024-58)...))
	_, err := thinpool.Create(t.Context(), w.dm, o)
	require.ErrorIs(t, err, thinpool.ErrNotBlank)
	require.ErrorContains(t, err, "ext4")
	o.Force = true
	p, err := thinpool.Create(t.Context(), w.dm, o)
	require.NoError(t, err)
	require.NoError(t, p.CreateThin(t.Context(), 1))

	o2 := o
	o2.Name, o2.Data = "bstest-raw2", paths[2]
	_, err = thinpool.Create(t.Context(), w.dm, o2)
	require.ErrorIs(t, err, thinpool.ErrBusy, "a metadata device in use is not taken, Force or not")
	require.NoError(t, p.Close(t.Context()))
	o2.Force = false
	_, err = thinpool.Create(t.Context(), w.dm, o2)
	require.ErrorIs(t, err, thinpool.ErrNotBlank)
	require.ErrorContains(t, err, "thin pool metadata")

	p, err = thinpool.Open(t.Context(), w.dm, p.Config())
	require.NoError(t, err)
	require.NoError(t, p.Delete(t.Context(), 1))
	foreign := p.Config()
	foreign.Identity = uuid.New()
	require.NoError(t, p.Close(t.Context()))
	require.ErrorIs(t, thinpool.Destroy(t.Context(), w.dm, foreign), thinpool.ErrForeign)
	_, err = thinpool.ReadSuperblock(paths[1])
	require.NoError(t, err, "left as it was")
	require.NoError(t, thinpool.Destroy(t.Context(), w.dm, p.Config()))
	require.NoError(t, thinpool.Destroy(t.Context(), w.dm, p.Config()), "destroying twice is no error")
	_, err = thinpool.ReadSuperblock(paths[1])
	require.ErrorIs(t, err, thinpool.ErrNotFormatted)
}
