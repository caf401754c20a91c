package snapshot_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

// TestSparesFail: whichever step fails, spares that cannot be made leave nothing, and
// are tried again when their layer has been used as often again.
func TestSparesFail(t *testing.T) {
	f := newFixture(t)
	for k := 1; k <= 22; k++ { // two creations, and eight spares made and removed
		layer := f.load(fmt.Sprint("image ", k), k).Layers[0]
		create := func(name string) error {
			_, err := f.s.Create(ctx, fmt.Sprint(k, name), snapshot.CreateRequest{Parent: layer})
			return err
		}
		f.s.KeepSpares()
		require.NoError(t, create("a"))
		f.kind.Faults.FailAt(k, dirdriver.ErrInjected)
		if err := create("b"); err != nil {
			require.ErrorIs(t, err, dirdriver.ErrInjected)
		}
		if err := f.s.Close(ctx); err != nil {
			require.ErrorIs(t, err, dirdriver.ErrInjected)
		}
		f.open()
		f.exact(fmt.Sprint("a fault at step ", k))

		f.s.KeepSpares()
		require.NoError(t, errors.Join(create("c"), create("d")))
		ready := func() bool { return f.s.Spares().Ready > 0 }
		require.Eventually(t, ready, 20*time.Second, time.Millisecond)
		f.check()
		f.reopen()
		f.exact("after Close")
	}
}
