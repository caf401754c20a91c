package snapshot_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// busy is a kind whose volumes come and go when its driver is asked for them or for what is wrong with them: before has
// been done when it answers, after when its answer is looked at.
type busy struct {
	snapshot.Kind
	volumes, check beside
}

type beside struct{ before, after func() }

func (b beside) do(ask func()) {
	for _, f := range []func(){b.before, ask, b.after} {
		if f != nil {
			f()
		}
	}
}

type busyDriver struct {
	snapshot.Driver
	of *busy
}

func (b *busy) Open(ctx context.Context, o snapshot.OpenOptions) (snapshot.Driver, error) {
	d, err := b.Kind.Open(ctx, o)
	return busyDriver{d, b}, err
}

func (d busyDriver) Volumes(ctx context.Context) (ids []snapshot.VolumeID, err error) {
	d.of.volumes.do(func() { ids, err = d.Driver.Volumes(ctx) })
	return ids, err
}

func (d busyDriver) Check(ctx context.Context, known []snapshot.Volume) (found []snapshot.Finding, err error) {
	d.of.check.do(func() { found, err = d.Driver.Check(ctx, known) })
	return found, err
}

// TestCheckBesideOthers: what others make and remove while the store is checked is no finding. The first volume of all is of
// a block of ids that was not reserved when the check began.
func TestCheckBesideOthers(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.s.Close(ctx))
	kind := &busy{Kind: f.kind}
	s, err := snapshot.Open(ctx, snapshot.StoreOptions{Root: f.root, Kinds: []snapshot.Kind{kind}})
	require.NoError(t, err)
	f.s = s
	create := func(name string) func() {
		return func() {
			_, err := s.Create(ctx, name, snapshot.CreateRequest{})
			if !errors.Is(err, snapshot.ErrExists) {
				require.NoError(t, err)
			}
		}
	}
	remove := func(name string) func() {
		return func() {
			if err := s.Remove(ctx, name); !errors.Is(err, snapshot.ErrNotFound) {
				require.NoError(t, err)
			}
		}
	}
	clean := func(o snapshot.CheckOptions) {
		t.Helper()
		r, err := s.Check(ctx, o)
		require.NoError(t, err)
		require.Empty(t, r.Findings)
		require.Empty(t, r.Repaired)
	}
	for _, c := range []beside{
		{before: create("a")}, {after: create("b")}, {before: remove("a")}, {after: remove("b")}, {create("c"), remove("c")},
	} {
		kind.volumes, kind.check = c, beside{}
		clean(snapshot.CheckOptions{})
		kind.volumes, kind.check = beside{}, c
		clean(snapshot.CheckOptions{})
	}
	kind.check = beside{before: func() { remove("here")(); require.NoError(t, s.Sweep(ctx)) }}
	create("here")()
	clean(snapshot.CheckOptions{})

	for _, o := range []snapshot.CheckOptions{{}, {Content: true}, {Repair: true}} {
		image := f.load("image", 1)
		kind.check = beside{after: func() {
			_, _, err := s.RemoveImage(ctx, image.ID.String(), false)
			require.NoError(t, err)
			_, err = s.Stat(ctx, image.Layers[0])
			require.ErrorIs(t, err, snapshot.ErrNotFound)
		}}
		clean(o)
	}
	kind.check = beside{}
}
