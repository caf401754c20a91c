package snapshot_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

// busy is a kind whose volumes come and go when its driver is asked for them: before has been done when it answers, after
// when its answer is looked at.
type busy struct {
	snapshot.Kind
	before, after func()
}

type busyDriver struct {
	snapshot.Driver
	of *busy
}

func (b *busy) Open(ctx context.Context, o snapshot.OpenOptions) (snapshot.Driver, error) {
	d, err := b.Kind.Open(ctx, o)
	return busyDriver{d, b}, err
}

func (d busyDriver) Volumes(ctx context.Context) ([]snapshot.VolumeID, error) {
	d.of.before()
	ids, err := d.Driver.Volumes(ctx)
	d.of.after()
	return ids, err
}

// TestCheckBesideOthers: what others make and remove while the store is checked is no finding. The first volume of all is of
// a block of ids that was not reserved when the check began.
func TestCheckBesideOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	kind := &busy{Kind: dirdriver.New(), before: func() {}, after: func() {}}
	o := snapshot.StoreOptions{Root: filepath.Join(dir, "store"), Kinds: []snapshot.Kind{kind}}
	require.NoError(t, snapshot.Init(ctx, kind, snapshot.InitOptions{Root: o.Root, BaseSize: 1 << 30}, ""))
	s, err := snapshot.Open(ctx, o)
	require.NoError(t, err)
	defer func() { require.NoError(t, errors.Join(s.Close(ctx), snapshot.Destroy(ctx, o))) }()
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
	for _, c := range []struct{ before, after func() }{
		{create("a"), func() {}}, {func() {}, create("b")}, {remove("a"), func() {}}, {func() {}, remove("b")}, {create("c"), remove("c")},
	} {
		kind.before, kind.after = c.before, c.after
		r, err := s.Check(ctx, snapshot.CheckOptions{})
		require.NoError(t, err)
		require.Empty(t, r.Findings)
	}
	kind.before, kind.after = func() {}, func() {}
}
