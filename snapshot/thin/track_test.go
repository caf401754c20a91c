package thin_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/snapshot/layertar"
)

// seal seals a volume that is not shown.
func (s *store) seal(v snapshot.Volume) snapshot.Volume {
	s.t.Helper()
	require.NoError(s.t, s.driver.Seal(s.t.Context(), v))
	v.Sealed = true
	return v
}

// track asks for the account of what differs between two volumes and, where there is one, sees that it tells what a walk tells.
func (s *store) track(t drivertest.Tester, lower, upper snapshot.Volume, since time.Time) (err error) {
	t.Helper()
	s.with(upper, upper.Sealed, func(above string) { err = s.trackShown(t, lower, upper, since, above) })
	return err
}

// trackShown is track for an upper volume that is mounted, at above.
func (s *store) trackShown(t drivertest.Tester, lower, upper snapshot.Volume, since time.Time, above string) (err error) {
	t.Helper()
	s.with(lower, true, func(below string) {
		var a layertar.Account
		a, err = s.driver.(snapshot.Tracker).Track(s.t.Context(), lower, []snapshot.Volume{upper}, since)
		if err == nil {
			drivertest.TracksLikeWalk(t, below, above, time.Time{}, a)
		}
	})
	return err
}

// TestTrack: of volumes that map the same blocks both file systems know that they are the same, of others ext4 knows which
// files are, of one that may be written to as well. Of what stands on such a one neither knows anything.
func TestTrack(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs string) {
		s := newStore(t, func(o *snapshot.InitOptions) { o.FileSystem = fs })
		tracker := s.driver.(snapshot.Tracker)
		differing := error(nil)
		if fs == "xfs" {
			differing = snapshot.ErrNotSupported
		}
		layer := s.create(16, s.base)
		s.with(layer, false, func(dir string) { write(t, dir+"/f", "below") })
		require.ErrorIs(t, s.track(t, s.base, layer, time.Now()), differing, "it may be written to")
		_, err := tracker.Track(t.Context(), layer, []snapshot.Volume{s.create(15, layer)}, time.Now())
		require.ErrorIs(t, err, snapshot.ErrNotSupported, "what is below may be written to")
		layer = s.seal(layer)
		require.ErrorIs(t, s.track(t, s.base, layer, time.Now()), differing)

		same := s.seal(s.create(17, layer))
		require.ErrorIs(t, s.track(t, layer, same, time.Now()), differing, "sealing xfs writes, as it mounts")

		touched := s.create(18, layer)
		s.with(touched, false, func(dir string) { write(t, dir+"/f", "above") })
		touched = s.seal(touched)
		require.ErrorIs(t, s.track(t, layer, touched, time.Now()), differing)
		_, err = tracker.Track(t.Context(), layer, nil, time.Now())
		require.ErrorIs(t, err, snapshot.ErrNotSupported)

		larger := snapshot.Volume{ID: 19, Origin: layer.ID, Size: 3 << 30}
		require.NoError(t, s.driver.Create(t.Context(), larger.ID, snapshot.CreateOptions{Origin: layer, Size: larger.Size}))
		s.with(larger, false, func(dir string) { write(t, dir+"/g", "above") })
		require.ErrorIs(t, s.track(t, layer, s.seal(larger), time.Now()), differing)
	})
}

// TestTrackMounted: what was done a moment ago to a volume that is mounted for writing is told, and of one that is mounted for
// reading nothing is.
func TestTrackMounted(t *testing.T) {
	s := newStore(t)
	layer := s.create(16, s.base)
	s.with(layer, false, func(dir string) { write(t, dir+"/f", "below") })
	layer = s.seal(layer)
	drivertest.ClockGoesOn(t)
	frozen := time.Now()
	upper := s.create(17, layer)
	s.with(upper, false, func(dir string) {
		require.NoError(t, s.trackShown(t, layer, upper, frozen, dir))
		f, err := os.OpenFile(dir+"/f", os.O_WRONLY, 0)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteAt([]byte("B"), 0) // neither its size changes nor a directory
		require.NoError(t, err)
		require.NoError(t, s.trackShown(t, layer, upper, frozen, dir))
		write(t, dir+"/new", "above")
		require.NoError(t, os.Link(dir+"/f", dir+"/g"))
		require.NoError(t, s.trackShown(t, layer, upper, frozen, dir))
		require.NoError(t, os.Remove(dir+"/f"))
		require.NoError(t, s.trackShown(t, layer, upper, frozen, dir))
	})
	s.with(upper, true, func(dir string) {
		require.ErrorIs(t, s.trackShown(t, layer, upper, frozen, dir), snapshot.ErrNotSupported)
	})
}

// TestTrackLikeWalk: whatever was done to the files of a volume.
func TestTrackLikeWalk(t *testing.T) {
	s := newStore(t)
	drivertest.Chain{
		Base: s.base, Create: s.create, Seal: s.seal,
		With: func(v snapshot.Volume, use func(string)) { s.with(v, v.Sealed, use) },
		Track: func(t drivertest.Tester, lower, upper snapshot.Volume, since time.Time, dir string) {
			require.NoError(t, s.trackShown(t, lower, upper, since, dir))
		},
	}.TrackLikeWalk(t, 6)
}
