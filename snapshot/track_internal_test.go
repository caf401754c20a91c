package snapshot

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot/layertar"
)

// TestSince: a container began when it was made, on the layer that it stands on; what began in between a layer and a later one is
// not known to have done so later than the first stood still.
func TestSince(t *testing.T) {
	still := time.Unix(1000, 0)
	layer := Info{Name: "layer", Kind: KindLayer, Created: still}
	above := Info{Name: "above", Kind: KindLayer, Parent: "layer", Created: still.Add(time.Second)}
	box := func(parent string) Info {
		return Info{Name: "box", Kind: KindContainer, Parent: parent, Created: still.Add(time.Hour)}
	}
	require.Equal(t, still.Add(time.Hour), since(layer, box("layer")))
	require.Equal(t, still.Add(time.Hour), since(above, box("above")))
	require.Equal(t, still, since(layer, box("above")), "the layer between may have been written to from then on")
	require.Equal(t, still, since(layer, above))
	back := box("layer")
	back.Created = still.Add(-time.Hour)
	require.Equal(t, back.Created, since(layer, back), "a clock was set back: what was changed after that is compared in full")
}

// teller is a Tracker that tells what it has.
type teller struct {
	Driver
	account layertar.Account
	err     error
}

func (t teller) Track(context.Context, Volume, []Volume, time.Time) (layertar.Account, error) {
	return t.account, t.err
}

// nothing is the account of a volume in which nothing was written, and everything a lineage of that.
type (
	nothing    struct{}
	everything struct{ nothing }
)

func (nothing) Untouched(uint64) bool { return true }
func (nothing) Reveal(uint64) error   { return nil }
func (nothing) Exact() bool           { return true }
func (everything) Same(uint64) bool   { return true }

// TestTrackReadsOnce: a layer's directories are read for a driver that does not know them, and once.
func TestTrackReadsOnce(t *testing.T) {
	cat := opened(t, filepath.Join(t.TempDir(), catalogFile))
	defer func() { require.NoError(t, cat.close()) }()
	const gone = "/a/tree/that/is/not/there"
	s := &Store{cat: cat, parents: knownParents{most: mostParents}}
	layer := Volume{ID: FirstVolumeID, Sealed: true}
	track := func(d teller, dir string) (layertar.Lineage, error) {
		s.driver = d
		return s.track(t.Context(), layer, dir, time.Time{}, Info{Volume: layer}, Volume{ID: FirstVolumeID + 1})
	}
	l, err := track(teller{account: everything{}}, gone)
	require.NoError(t, err)
	require.Equal(t, everything{}, l)
	l, err = track(teller{err: ErrNotSupported}, gone)
	require.NoError(t, err)
	require.Nil(t, l)
	_, err = track(teller{account: nothing{}}, gone)
	require.ErrorIs(t, err, os.ErrNotExist)
	for _, dir := range []string{t.TempDir(), gone} {
		l, err = track(teller{account: nothing{}}, dir)
		require.NoError(t, err)
		require.True(t, l.Same(1))
	}
}
