package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

// forgetful is a kind whose removals are undone by the next open, unless they were settled.
type forgetful struct {
	*dirdriver.Kind
	cannot error // what Settle returns
}

type forgetfulDriver struct {
	*dirdriver.Driver
	of *forgetful

	mu      sync.Mutex
	removed []snapshot.VolumeID
}

func (k *forgetful) Open(ctx context.Context, o snapshot.OpenOptions) (snapshot.Driver, error) {
	d, err := k.Kind.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return &forgetfulDriver{Driver: d.(*dirdriver.Driver), of: k}, nil
}

func (d *forgetfulDriver) Remove(_ context.Context, ids ...snapshot.VolumeID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.removed = append(d.removed, ids...)
	return nil
}

func (d *forgetfulDriver) Settle(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of.cannot != nil {
		return d.of.cannot
	}
	defer func() { d.removed = nil }()
	return d.Driver.Remove(ctx, d.removed...)
}

// TestRemovalsThatDoNotLast: of volumes whose removal was not settled the next open knows that they must go: of those that
// nobody ever heard of, too, when the store has come to another block of ids meanwhile.
func TestRemovalsThatDoNotLast(t *testing.T) {
	for name, cannot := range map[string]error{"settled": nil, "not settled": errors.New("the disk is broken")} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			kind := &forgetful{Kind: f.kind, cannot: cannot}
			o := snapshot.StoreOptions{Root: f.root, Kinds: []snapshot.Kind{kind}}
			layer := f.load("image", 1).Layers[0]
			require.NoError(t, f.s.Close(ctx))
			var err error
			f.s, err = snapshot.Open(ctx, o)
			require.NoError(t, err)
			f.s.KeepSpares()
			create := func(n int) error {
				_, err := f.s.Create(ctx, fmt.Sprint(n), snapshot.CreateRequest{Parent: layer})
				return err
			}
			require.NoError(t, errors.Join(create(1), create(2)))
			require.Eventually(t, func() bool { return f.s.Spares().Ready > 0 }, 20*time.Second, time.Millisecond)
			require.NoError(t, f.s.DropSpares(ctx))
			for n := 3; n < 150 && err == nil; n++ {
				err = create(n)
			}
			require.ErrorIs(t, err, cannot)
			require.NoError(t, errors.Join(f.s.Remove(ctx, "1"), f.s.Remove(ctx, "2")))
			require.ErrorIs(t, f.s.Close(ctx), cannot)
			f.open()
			f.exact("after all")
		})
	}
}
