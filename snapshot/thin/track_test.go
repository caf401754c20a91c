package thin_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
)

// TestTrackKnowsEqualVolumes: what maps the same blocks is the same, and a walk says so too; of all else the driver
// cannot tell.
func TestTrackKnowsEqualVolumes(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs string) {
		s := newStore(t, func(o *snapshot.InitOptions) { o.FileSystem = fs })
		tracker := s.driver.(snapshot.Tracker)
		sealed := func(v snapshot.Volume) snapshot.Volume {
			require.NoError(t, s.driver.Seal(t.Context(), v))
			v.Sealed = true
			return v
		}
		layer := s.create(16, s.base)
		s.with(layer, false, func(dir string) { write(t, dir+"/f", "below") })
		_, err := tracker.Track(t.Context(), s.base, []snapshot.Volume{layer})
		require.ErrorIs(t, err, snapshot.ErrNotSupported, "it may be written to")
		layer = sealed(layer)
		_, err = tracker.Track(t.Context(), s.base, []snapshot.Volume{layer})
		require.ErrorIs(t, err, snapshot.ErrNotSupported, "it was written to")

		same := sealed(s.create(17, layer))
		l, err := tracker.Track(t.Context(), layer, []snapshot.Volume{same})
		if fs == "xfs" { // whose sealing writes, as it mounts
			require.ErrorIs(t, err, snapshot.ErrNotSupported)
			return
		}
		require.NoError(t, err)
		s.with(layer, true, func(lower string) {
			s.with(same, true, func(upper string) {
				for _, opts := range []layertar.CompareOptions{{}, {Snapshots: true}, {Snapshots: true, Lineage: l}} {
					changes, err := layertar.Changes(t.Context(), lower, upper, opts)
					require.NoError(t, err)
					require.Empty(t, changes)
				}
			})
		})
		touched := s.create(18, layer)
		s.with(touched, false, func(dir string) { write(t, dir+"/f", "above") })
		_, err = tracker.Track(t.Context(), layer, []snapshot.Volume{sealed(touched)})
		require.ErrorIs(t, err, snapshot.ErrNotSupported)
		_, err = tracker.Track(t.Context(), layer, nil)
		require.ErrorIs(t, err, snapshot.ErrNotSupported)
	})
}
