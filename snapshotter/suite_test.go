package snapshotter

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
)

// TestSuite is containerd's public conformance suite, whole, in this process and
// through the socket. Each of its cases has a store of its own. On xfs, on ZFS in
// its emulated machine, and when time is short, it runs through the socket only, which has all that the other has.
func TestSuite(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		if v.o.FileSystem != "xfs" && v.kind.Name() != "zfs" && !testing.Short() {
			t.Run("process", func(t *testing.T) {
				suite(t, v, func(w *world) snapshots.Snapshotter { return w.local("suite") })
			})
		}
		t.Run("socket", func(t *testing.T) {
			suite(t, v, func(w *world) snapshots.Snapshotter { return w.remote("suite") })
		})
	})
}

func suite(t *testing.T, v variant, of func(*world) snapshots.Snapshotter) {
	testsuite.SnapshotterSuite(t, "blockstore", func(ctx context.Context, _ string) (snapshots.Snapshotter, func() error, error) {
		dir, err := os.MkdirTemp(os.Getenv("BSTEST_DIR"), "bstest-suite-")
		if err != nil {
			return nil, nil, err
		}
		w, err := makeWorld(ctx, v, dir)
		if err != nil {
			w.rescue(t)
			return nil, nil, errors.Join(err, os.RemoveAll(dir))
		}
		return of(w), func() error {
			err := w.end()
			w.rescue(t)
			return errors.Join(err, os.RemoveAll(dir))
		}, nil
	})
}
