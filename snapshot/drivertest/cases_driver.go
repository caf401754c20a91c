package drivertest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// driverCases call the driver itself, for what the store never asks of it in
// good weather. Their volume ids lie far above those that the store hands out.
func driverCases() []testCase {
	return []testCase{
		{name: "DriverCreateReplaces", run: driverCreateReplaces},
		{name: "DriverRemoveMissing", run: driverRemoveMissing},
		{name: "DriverSealedVolume", run: driverSealedVolume},
		{name: "DriverBusy", run: driverBusy},
		{name: "DriverUnpackAbandoned", run: driverUnpackAbandoned},
		{name: "DriverReadOnlyActivation", run: driverReadOnly},
		{name: "DriverCheckMissing", run: driverCheckMissing},
		{name: "DriverEpoch", run: driverEpoch, own: true},
	}
}

const farID snapshot.VolumeID = 1 << 20

func (e *env) base() snapshot.Volume {
	e.t.Helper()
	st, err := e.s.Status(e.ctx())
	e.ok(err)
	return snapshot.Volume{ID: snapshot.Base, Size: st.BaseSize, Sealed: true}
}

// volume makes a volume on the driver and removes it at the end of the case.
func (e *env) volume(id snapshot.VolumeID, origin snapshot.Volume) snapshot.Volume {
	e.t.Helper()
	d := e.s.Driver()
	e.ok(d.Create(e.ctx(), id, snapshot.CreateOptions{Origin: origin}))
	return snapshot.Volume{ID: id, Origin: origin.ID, Size: origin.Size}
}

// shown activates and mounts a volume for fn.
func (e *env) shown(v snapshot.Volume, readOnly bool, fn func(dir string)) {
	e.t.Helper()
	d := e.s.Driver()
	ms, err := d.Activate(e.ctx(), v, readOnly)
	e.ok(err)
	dir := filepath.Join(e.dir, "shown")
	e.ok(os.MkdirAll(dir, 0o700))
	e.mountAll(ms, dir)
	defer func() {
		e.unmountAll(ms, dir)
		e.ok(os.Remove(dir))
		e.ok(d.Deactivate(e.ctx(), v.ID))
	}()
	fn(dir)
}

func (e *env) driverRemove(ids ...snapshot.VolumeID) {
	e.t.Helper()
	e.ok(e.s.Driver().Remove(e.ctx(), ids...))
}

func driverCreateReplaces(t *testing.T, e *env) {
	v := e.volume(farID, e.base())
	e.shown(v, false, func(dir string) { e.write(dir, "f", "left from a crash") })
	v = e.volume(farID, e.base())
	e.shown(v, false, func(dir string) { require.Empty(t, e.entries(dir)) })
	e.driverRemove(v.ID)
}

func driverRemoveMissing(t *testing.T, e *env) {
	v := e.volume(farID, e.base())
	e.driverRemove(farID+1, v.ID, farID+2)
	require.NotContains(t, e.volumes(), v.ID)
	e.driverRemove(v.ID)
	e.driverRemove()
	e.ok(e.s.Driver().Deactivate(e.ctx(), farID))
}

func driverSealedVolume(t *testing.T, e *env) {
	d := e.s.Driver()
	v := e.volume(farID, e.base())
	e.shown(v, false, func(dir string) {
		e.write(dir, "f", "f")
		require.ErrorIs(t, d.Seal(e.ctx(), v), snapshot.ErrBusy, "a mounted volume")
	})
	_, err := d.Activate(e.ctx(), v, false)
	e.ok(err)
	e.ok(d.Seal(e.ctx(), v)) // which deactivates it
	v.Sealed = true
	for _, readOnly := range []bool{false, true} {
		e.shown(v, readOnly, func(dir string) { e.refuses(dir, "f") })
	}
	child := e.volume(farID+1, v)
	e.shown(child, false, func(dir string) { e.write(dir, "f", "changed") })
	e.shown(v, true, func(dir string) { require.Equal(t, "f", e.read(dir, "f")) })
	e.driverRemove(v.ID) // an origin may go before its snapshots
	e.shown(child, false, func(dir string) { require.Equal(t, "changed", e.read(dir, "f")) })
	e.driverRemove(child.ID)
	t.Run("Kernel", func(t *testing.T) { driverSealedByKernel(t, e) })
}

// driverSealedByKernel takes the read-only option away from the mounts of a
// sealed volume: the kernel must refuse writes all the same.
func driverSealedByKernel(t *testing.T, e *env) {
	e.f.needs(t, SealedByKernel)
	d := e.s.Driver()
	v := e.volume(farID+3, e.base())
	e.shown(v, false, func(dir string) { e.write(dir, "f", "f") })
	e.ok(d.Seal(e.ctx(), v))
	v.Sealed = true
	ms, err := d.Activate(e.ctx(), v, false)
	e.ok(err)
	for i := range ms {
		ms[i].Options = slices.DeleteFunc(slices.Clone(ms[i].Options), func(o string) bool { return o == "ro" })
	}
	dir := filepath.Join(e.dir, "writable")
	e.ok(os.Mkdir(dir, 0o700))
	if err := mount.All(ms, dir); err == nil { // a block driver's device refuses the mount itself
		err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644)
		e.unmountAll(ms, dir)
		require.ErrorIs(t, err, unix.EROFS)
	} else {
		require.True(t, errIsAny(err, unix.EROFS, unix.EACCES), "mounting a sealed volume for writing: %v", err)
	}
	e.ok(os.Remove(dir))
	e.ok(d.Deactivate(e.ctx(), v.ID))
	e.driverRemove(v.ID)
}

func driverBusy(t *testing.T, e *env) {
	d := e.s.Driver()
	v, free := e.volume(farID, e.base()), e.volume(farID+1, e.base())
	e.shown(v, false, func(dir string) {
		require.ErrorIs(t, d.Deactivate(e.ctx(), v.ID), snapshot.ErrBusy)
		require.ErrorIs(t, d.Remove(e.ctx(), v.ID, free.ID), snapshot.ErrBusy)
		e.write(dir, "f", "still works")
		if ids := e.volumes(); ids != nil {
			require.Contains(t, ids, v.ID)
			require.NotContains(t, ids, free.ID, "one that is busy does not keep the others")
		}
	})
	e.driverRemove(v.ID)
}

func driverUnpackAbandoned(t *testing.T, e *env) {
	d := e.s.Driver()
	for sealed := range 3 {
		target := filepath.Join(e.dir, "target")
		e.ok(os.Mkdir(target, 0o700))
		ids := []snapshot.VolumeID{farID, farID + 1, farID + 2}
		up, err := d.Unpack(e.ctx(), snapshot.UnpackOptions{Origin: e.base(), Volumes: ids, Target: target})
		require.NoError(t, err)
		for i := range sealed {
			e.write(up.Dir(), "f", string(rune('a'+i)))
			e.ok(up.Seal(e.ctx()))
		}
		e.write(up.Dir(), "f", "thrown away")
		e.ok(up.Close())
		e.ok(up.Close())
		e.ok(os.Remove(target))
		for i := range sealed {
			v := snapshot.Volume{ID: ids[i], Size: e.f.BaseSize, Sealed: true}
			e.shown(v, true, func(dir string) {
				require.Equal(t, string(rune('a'+i)), e.read(dir, "f"))
				e.refuses(dir, "f")
			})
		}
		e.driverRemove(ids...)
		require.Empty(t, e.volumes())
	}
}

func driverReadOnly(t *testing.T, e *env) {
	v := e.volume(farID, e.base())
	e.shown(v, false, func(dir string) { e.write(dir, "f", "f") })
	e.shown(v, true, func(dir string) { e.refuses(dir, "f") })
	e.shown(v, false, func(dir string) { e.write(dir, "f", "writable again") })
	e.driverRemove(v.ID)
}

func driverCheckMissing(t *testing.T, e *env) {
	d := e.s.Driver()
	v := e.volume(farID, e.base())
	found, err := d.Check(e.ctx(), []snapshot.Volume{v})
	require.NoError(t, err)
	require.Empty(t, found)
	probed := func(want ...snapshot.VolumeID) {
		t.Helper()
		if p, ok := d.(snapshot.Prober); ok {
			exist, err := p.Exist(e.ctx(), v.ID-1, v.ID, snapshot.MaxVolumeID)
			require.NoError(t, err)
			require.ElementsMatch(t, want, exist)
		}
	}
	probed(v.ID)
	e.driverRemove(v.ID)
	probed()
	found, err = d.Check(e.ctx(), []snapshot.Volume{v})
	require.NoError(t, err)
	require.NotEmpty(t, found, "a volume that the catalog knows and the kernel does not")
	require.Equal(t, v.ID, found[0].Volume)
}

func driverEpoch(t *testing.T, e *env) {
	d, ok := e.s.Driver().(snapshot.Epoched)
	if !ok {
		t.Skip("the driver keeps no counter beside the catalog")
	}
	at, err := d.Epoch(e.ctx())
	require.NoError(t, err)
	require.Error(t, d.SetEpoch(e.ctx(), at+5, at+6), "from a count where it is not")
	got, err := d.Epoch(e.ctx())
	require.NoError(t, err)
	require.Equal(t, at, got)
	// A pool of another age than the catalog is refused and not touched.
	require.NoError(t, d.SetEpoch(e.ctx(), at, at+1))
	e.close()
	_, err = snapshot.Open(e.ctx(), e.options())
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
}
