package drivertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// Round is one way to create, mount, unmount and remove a container; i counts
// from 0 and is never used twice.
type Round func(ctx context.Context, i int) error

// Floor prepares a Round that does the kernel's part of the work without a
// store's bookkeeping, on the store's own backing store. layer is what the
// container is made of, dir an empty directory to mount it at.
type Floor func(t testing.TB, s *snapshot.Store, layer snapshot.Info, dir string) Round

// Bench measures create+mount+unmount+remove through the store against the
// driver's bare calls and the factory's Floors, all in turn, so that they share
// whatever else the machine does. It reports the time of each per operation and
// the store's as a multiple of each.
func Bench(b *testing.B, f Factory) {
	if os.Geteuid() != 0 {
		b.Skip("it mounts file systems: it needs root")
	}
	f = f.withDefaults()
	if err := f.Kind.Probe(b.Context()); err != nil {
		b.Skipf("this kernel cannot run the driver %s: %v", f.Kind.Name(), err)
	}
	for _, crowd := range []int{10, 1000 / f.Scale} {
		b.Run(fmt.Sprintf("CreateMountUnmountRemove/containers=%d", crowd), func(b *testing.B) {
			e := makeEnv(b, f, f.BaseSize)
			layer := e.layer("", func(dir string) { manyFiles(e, dir, 20, 1) })
			for i := range crowd {
				e.create(fmt.Sprintf("crowd-%d", i), layer.Name)
			}
			e.bench(b, layer)
			e.clear()
			e.end(b)
		})
	}
	b.Run("CreateOnChain", func(b *testing.B) {
		e := makeEnv(b, f, f.BaseSize)
		e.benchChain(b, 1000/f.Scale)
		e.clear()
		e.end(b)
	})
	b.Run("WriterBesideChanges", func(b *testing.B) {
		e := makeEnv(b, f, f.BaseSize)
		e.benchWriter(b, 10_000, 500)
		e.clear()
		e.end(b)
	})
}

// benchChain measures the creation of a container on the lowest layer of a chain and on the highest, in turn.
func (e *env) benchChain(b *testing.B, layers int) {
	var chain []string
	for i := range layers {
		name := fmt.Sprintf("chain-%d", i)
		r := snapshot.CreateRequest{}
		if i > 0 {
			r.Parent = chain[i-1]
		}
		_, err := e.s.Create(e.ctx(), name, r)
		e.ok(err)
		_, err = e.s.Freeze(e.ctx(), name, snapshot.FreezeRequest{})
		e.ok(err)
		chain = append(chain, name)
	}
	var lowest, highest time.Duration
	create := func(name, parent string) time.Duration {
		took := timed(b, func() error {
			_, err := e.s.Create(e.ctx(), name, snapshot.CreateRequest{Parent: parent})
			return err
		})
		e.remove(name)
		return took
	}
	b.ResetTimer()
	for i := range b.N {
		lowest += create(fmt.Sprintf("lowest-%d", i), chain[0])
		highest += create(fmt.Sprintf("highest-%d", i), chain[layers-1])
	}
	b.StopTimer()
	b.ReportMetric(float64(lowest.Nanoseconds())/float64(b.N), "one-layer-ns/op")
	b.ReportMetric(float64(highest.Nanoseconds())/float64(b.N), fmt.Sprintf("%d-layers-ns/op", layers))
	b.ReportMetric(float64(highest)/float64(lowest), "x-one-layer")
}

func (e *env) bench(b *testing.B, layer snapshot.Info) {
	dir := filepath.Join(e.dir, "floor")
	e.ok(os.Mkdir(dir, 0o700))
	rounds := map[string]Round{"driver": driverRound(e.s, layer, dir)}
	for name, floor := range e.f.Floors {
		rounds[name] = floor(b, e.s, layer, dir)
	}
	names := slices.Sorted(maps.Keys(rounds))
	var store time.Duration
	floors := map[string]time.Duration{}
	b.ResetTimer()
	for i := range b.N {
		store += timed(b, func() error { return storeRound(e, layer, i) })
		b.StopTimer()
		for _, name := range names {
			floors[name] += timed(b, func() error { return rounds[name](e.ctx(), i) })
		}
		b.StartTimer()
	}
	b.StopTimer()
	for _, name := range names {
		b.ReportMetric(float64(floors[name].Nanoseconds())/float64(b.N), name+"-ns/op")
		b.ReportMetric(float64(store)/float64(floors[name]), "x-"+name)
	}
	e.ok(os.Remove(dir))
}

func timed(b *testing.B, fn func() error) time.Duration {
	b.Helper()
	start := time.Now()
	require.NoError(b, fn())
	return time.Since(start)
}

func storeRound(e *env, layer snapshot.Info, i int) error {
	name := fmt.Sprintf("bench-%d", i)
	if _, err := e.s.Create(e.ctx(), name, snapshot.CreateRequest{Parent: layer.Name}); err != nil {
		return err
	}
	if _, err := e.s.Mount(e.ctx(), name); err != nil {
		return err
	}
	if err := e.s.Unmount(e.ctx(), name); err != nil {
		return err
	}
	return e.s.Remove(e.ctx(), name)
}

// driverRound is what the store asks of the driver, without the catalog.
func driverRound(s *snapshot.Store, layer snapshot.Info, dir string) Round {
	d := s.Driver()
	return func(ctx context.Context, i int) error {
		v := snapshot.Volume{ID: farID + snapshot.VolumeID(i), Origin: layer.Volume.ID, Size: layer.Volume.Size}
		if err := d.Create(ctx, v.ID, snapshot.CreateOptions{Origin: layer.Volume}); err != nil {
			return err
		}
		ms, err := d.Activate(ctx, v, false)
		if err == nil {
			err = mount.All(ms, dir)
		}
		if err != nil {
			return err
		}
		var errs []error
		for range ms {
			errs = append(errs, mount.Unmount(dir))
		}
		return errors.Join(append(errs, d.Deactivate(ctx, v.ID), d.Remove(ctx, v.ID))...)
	}
}
