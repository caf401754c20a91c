package thinpool_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// foreign is a pool that somebody else has, with a thin device in it and a transaction id.
type foreign struct {
	w    *world
	pool *thinpool.Pool
}

func newForeign(w *world) foreign {
	f := foreign{w, w.pool()}
	require.NoError(w.t, f.pool.CreateThin(w.t.Context(), 1))
	require.NoError(w.t, f.pool.SetTransactionID(w.t.Context(), 0, 7))
	file := w.activate(f.pool, 1)
	require.NoError(w.t, w.fill(file, 3, 2, 'f'))
	return f
}

// untouched is what must not change: pool table, superblock, the foreign device's mapping and contents.
func (f foreign) untouched() {
	f.w.t.Helper()
	ctx := f.w.t.Context()
	sb, err := thinpool.ReadSuperblock(f.pool.Config().Metadata)
	require.NoError(f.w.t, err)
	require.Equal(f.w.t, f.pool.Config().Identity, sb.Identity)
	require.EqualValues(f.w.t, 7, sb.TransactionID)
	file := f.w.activate(f.pool, 1)
	require.Equal(f.w.t, []byte{0, 'f', 'f', 0}, []byte{f.w.first(file, 2), f.w.first(file, 3), f.w.first(file, 4), f.w.first(file, 5)})
	mapped, err := f.pool.Mapped(ctx, 1)
	require.NoError(f.w.t, err)
	require.EqualValues(f.w.t, 2<<16, mapped)
}

func (f foreign) config() thinpool.Config {
	return thinpool.Config{Identity: uuid.New(), Name: "bstest-share"}
}

// share finds and takes a share. It is given back at the test's end.
func (f foreign) share() *thinpool.Pool {
	f.w.t.Helper()
	c, err := thinpool.FindShare(f.w.t.Context(), f.w.dm, f.pool.Config().PoolName(), f.config())
	require.NoError(f.w.t, err)
	c.Name += c.Identity.String()[:4]
	p, err := thinpool.Create(f.w.t.Context(), f.w.dm, thinpool.CreateOptions{Config: c})
	require.NoError(f.w.t, err)
	f.w.t.Cleanup(func() {
		require.NoError(f.w.t, p.Close(contextOf()))
		f.w.destroy(c)
	})
	return p
}

func numbers(t *testing.T, p *thinpool.Pool) []dm.DeviceID {
	t.Helper()
	all, err := p.Devices(t.Context())
	require.NoError(t, err)
	var ids []dm.DeviceID
	for _, d := range all {
		ids = append(ids, d.ID)
	}
	return ids
}

func TestShareLeavesThePoolAlone(t *testing.T) {
	w := newWorld(t)
	f := newForeign(w)
	ctx := t.Context()
	p := f.share()
	require.Equal(t, []dm.DeviceID{1}, numbers(t, p), "the mark")
	require.NoError(t, p.CreateThin(ctx, 16))
	require.NoError(t, w.fill(w.activate(p, 16), 3, 1, 'o'))
	require.NoError(t, p.CreateSnapshot(ctx, 17, thinpool.SnapshotOptions{Origin: 16}))
	require.NoError(t, w.fill(w.activate(p, 16), 3, 1, 'x'))
	require.EqualValues(t, 'o', w.first(w.activate(p, 17), 3))
	require.Equal(t, []dm.DeviceID{1, 16, 17}, numbers(t, p))
	require.Len(t, numbers(t, f.pool), 5, "the foreign one, ours, and an epoch")

	require.ErrorIs(t, p.SetTransactionID(ctx, 7, 8), thinpool.ErrForeign)
	require.ErrorIs(t, p.GrowData(ctx, 0), thinpool.ErrForeign)
	require.ErrorIs(t, p.GrowMetadata(ctx, 0), thinpool.ErrForeign)
	require.ErrorIs(t, p.CreateThin(ctx, thinpool.ShareDevices), thinpool.ErrWornOut)
	require.ErrorIs(t, p.CreateSnapshot(ctx, thinpool.ShareDevices, thinpool.SnapshotOptions{Origin: 16}), thinpool.ErrWornOut)
	require.Error(t, p.Delete(ctx, thinpool.ShareDevices), "an epoch's number")
	require.ErrorIs(t, f.pool.Close(ctx), thinpool.ErrBusy, "the owner while we hold it")

	require.ErrorIs(t, thinpool.Destroy(ctx, w.dm, p.Config()), thinpool.ErrBusy)
	w.closeAll()
	f.untouched()
	require.NoError(t, p.Close(ctx))
	require.NoError(t, thinpool.Destroy(ctx, w.dm, p.Config()))
	require.NoError(t, thinpool.Destroy(ctx, w.dm, p.Config()), "twice is no error")
	require.Equal(t, []dm.DeviceID{1}, numbers(t, f.pool))
	f.untouched()
}

func TestShareIsKnownByItsMark(t *testing.T) {
	w := newWorld(t)
	f := newForeign(w)
	ctx := t.Context()
	p, other := f.share(), f.share()
	require.NotEqual(t, p.Config().Share.First, other.Config().Share.First)
	require.NoError(t, other.CreateThin(ctx, 16))
	require.NoError(t, p.Close(ctx))

	again, err := thinpool.Open(ctx, w.dm, p.Config())
	require.NoError(t, err)
	require.NoError(t, again.Close(ctx))
	wrong := p.Config()
	share := *other.Config().Share
	wrong.Share = &share
	_, err = thinpool.Open(ctx, w.dm, wrong)
	require.ErrorIs(t, err, thinpool.ErrForeign)
	require.ErrorIs(t, thinpool.Destroy(ctx, w.dm, wrong), thinpool.ErrForeign)
	_, err = thinpool.Create(ctx, w.dm, thinpool.CreateOptions{Config: wrong})
	require.ErrorIs(t, err, thinpool.ErrBusy, "a share that is taken")
	require.Equal(t, []dm.DeviceID{1, 16}, numbers(t, other))

	// Who died before the mark was written left a blank one, and a plan that names the range.
	c, err := thinpool.FindShare(ctx, w.dm, f.pool.Config().PoolName(), f.config())
	require.NoError(t, err)
	mark := c.Share.First + 1
	require.NoError(t, f.pool.CreateThin(ctx, mark))
	_, err = thinpool.Open(ctx, w.dm, c)
	require.ErrorIs(t, err, thinpool.ErrForeign)
	require.NoError(t, thinpool.Destroy(ctx, w.dm, c))
	require.NotContains(t, numbers(t, f.pool), mark)
	_, err = thinpool.Open(ctx, w.dm, c)
	require.ErrorIs(t, err, thinpool.ErrForeign, "no mark at all")
	f.untouched()
}

func TestShareEpoch(t *testing.T) {
	w := newWorld(t)
	f := newForeign(w)
	ctx := t.Context()
	p := f.share()
	at, err := p.Epoch(ctx)
	require.NoError(t, err)
	require.Zero(t, at)
	require.NoError(t, p.SetEpoch(ctx, 0, 1))
	require.ErrorIs(t, p.SetEpoch(ctx, 0, 1), thinpool.ErrTransaction)
	require.ErrorIs(t, p.SetEpoch(ctx, 1, 1), thinpool.ErrTransaction)
	// A crash between the two messages of a change leaves two epochs: the higher counts, and the next change clears up.
	first := p.Config().Share.First + thinpool.ShareDevices
	require.NoError(t, f.pool.CreateThin(ctx, first+2))
	at, err = p.Epoch(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 2, at)
	require.NoError(t, p.SetEpoch(ctx, 2, 3))
	all := numbers(t, f.pool)
	require.Equal(t, first+3, all[len(all)-1])
	require.NotContains(t, all, first+1)
	require.NotContains(t, all, first+2)
	f.untouched()
}

func TestShareRefusals(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	f := foreign{w: w}
	_, err := thinpool.FindShare(ctx, w.dm, "bstest-nosuch", f.config())
	require.ErrorIs(t, err, thinpool.ErrInactive)
	_, err = thinpool.FindShare(ctx, w.dm, "/dev/null", f.config())
	require.ErrorIs(t, err, thinpool.ErrInactive)

	f.pool = w.pool()
	ref := dm.UUID(f.pool.Config().PoolUUID())
	_, err = w.dm.Suspend(ctx, ref, dm.SuspendOptions{})
	require.NoError(t, err)
	_, err = thinpool.FindShare(ctx, w.dm, f.pool.Config().PoolName(), f.config())
	require.ErrorIs(t, err, thinpool.ErrBusy)
	_, err = w.dm.Resume(ctx, ref)
	require.NoError(t, err)

	require.NoError(t, f.pool.CreateThin(ctx, 1))
	d, err := f.pool.Activate(ctx, 1, thinpool.ActivateOptions{Size: 1 << 20})
	require.NoError(t, err)
	_, err = thinpool.FindShare(ctx, w.dm, d.Path, f.config())
	require.ErrorIs(t, err, thinpool.ErrInvalid, "a device that is no pool")
	require.NoError(t, f.pool.Deactivate(ctx, 1))

	_, lines, err := w.dm.Table(ctx, ref, dm.TableOptions{})
	require.NoError(t, err)
	table, err := dm.ParseTable(lines)
	require.NoError(t, err)
	target := table[0].Target.(dm.ThinPool)
	target.SkipBlockZeroing = true
	_, err = w.dm.Load(ctx, ref, dm.NewTable(table[0].Length, target), dm.LoadOptions{})
	require.NoError(t, err)
	_, err = w.dm.Resume(ctx, ref)
	require.NoError(t, err)
	_, err = thinpool.FindShare(ctx, w.dm, f.pool.Config().PoolName(), f.config())
	require.ErrorIs(t, err, thinpool.ErrInvalid)
	require.ErrorContains(t, err, "skip_block_zeroing")
}

func TestShareIsFull(t *testing.T) {
	w := newWorld(t)
	f := foreign{w, w.pool()}
	for i := range dm.DeviceID(8) {
		require.NoError(t, f.pool.CreateThin(t.Context(), i<<21+5))
	}
	_, err := thinpool.FindShare(t.Context(), w.dm, f.pool.Config().PoolName(), f.config())
	require.ErrorIs(t, err, thinpool.ErrNoSpace)
}

func TestShareWaitsForItsOwner(t *testing.T) {
	w := newWorld(t)
	f := foreign{w, w.pool()}
	p := f.share()
	require.NoError(t, p.CreateThin(t.Context(), 16))
	ref := dm.UUID(f.pool.Config().PoolUUID())
	_, err := w.dm.Suspend(t.Context(), ref, dm.SuspendOptions{})
	require.NoError(t, err)
	done := make(chan error)
	go func() {
		_, err := p.Activate(t.Context(), 16, thinpool.ActivateOptions{Size: 1 << 20})
		done <- err
	}()
	_, err = w.dm.Resume(t.Context(), ref)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.NoError(t, p.Deactivate(t.Context(), 16))
}

// TestShareLetsGoOfWhatADeadProcessRead: a metadata snapshot that a process of ours left held would keep the owner's
// deleted blocks from becoming free.
func TestShareLetsGoOfWhatADeadProcessRead(t *testing.T) {
	w := newWorld(t)
	f := newForeign(w)
	ctx := t.Context()
	p := f.share()
	held := func() bool {
		st, err := f.pool.Status(ctx)
		require.NoError(t, err)
		return st.HeldRoot != 0
	}
	err := p.Metadata(ctx, func(*metadata.View) error {
		require.True(t, held())
		q, err := thinpool.Open(ctx, w.dm, p.Config()) // as after a kill at this instant
		require.NoError(t, err)
		require.False(t, held())
		return q.Close(ctx)
	})
	require.ErrorIs(t, err, thinpool.ErrTaken)

	// What its owner holds stays.
	err = f.pool.Metadata(ctx, func(*metadata.View) error {
		q, err := thinpool.Open(ctx, w.dm, p.Config())
		require.NoError(t, err)
		require.True(t, held())
		return q.Close(ctx)
	})
	require.NoError(t, err)
	require.False(t, held())
}

// TestShareIsGivenBackWhileItIsRead: nothing of a reader that died is left, either.
func TestShareIsGivenBackWhileItIsRead(t *testing.T) {
	w := newWorld(t)
	f := newForeign(w)
	ctx := t.Context()
	p := f.share()
	err := p.Metadata(ctx, func(*metadata.View) error { return thinpool.Destroy(ctx, w.dm, p.Config()) })
	require.ErrorIs(t, err, thinpool.ErrTaken)
	st, err := f.pool.Status(ctx)
	require.NoError(t, err)
	require.Zero(t, st.HeldRoot)
}
