package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// Tester is a test or one of package rapid's tries.
type Tester interface {
	require.TestingT
	Helper()
	Context() context.Context
}

// found is all that a comparison can tell.
type found struct {
	changes string
	size    int64
	tar     []byte
}

func compared(t Tester, lower, upper string, o layertar.CompareOptions) found {
	t.Helper()
	all, err := layertar.Changes(t.Context(), lower, upper, o)
	require.NoError(t, err)
	size, err := layertar.Size(t.Context(), lower, upper, o)
	require.NoError(t, err)
	var tar bytes.Buffer
	_, err = layertar.Diff(t.Context(), lower, upper, &tar, layertar.DiffOptions{CompareOptions: o})
	require.NoError(t, err)
	text := ""
	for _, c := range all {
		text += fmt.Sprintln(c.Kind, c.Path)
	}
	return found{text, size, tar.Bytes()}
}

// ClockGoesOn waits until what is changed from now on is told by its change time from what was changed before, so that a
// volume which is sealed then has nothing that has to be looked at for that.
func ClockGoesOn(t Tester) {
	t.Helper()
	begin := time.Now()
	require.Eventually(t, func() bool {
		var now unix.Timespec
		err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) // which file systems take the time from
		return err == nil && time.Unix(now.Unix()).After(begin.Add(layertar.ClockTick))
	}, time.Minute, time.Millisecond)
}

// TracksLikeWalk fails the test unless a comparison of two trees by a driver's account finds what a walk over
// everything does: changes, sizes and the tar. Nobody changes lower.
func TracksLikeWalk(t Tester, lower, upper string, since time.Time, a layertar.Account) {
	t.Helper()
	want := compared(t, lower, upper, layertar.CompareOptions{})
	got := compared(t, lower, upper, layertar.CompareOptions{Snapshots: true, Since: since, Lineage: lineageOf(t, a, lower)})
	require.Equal(t, want.changes, got.changes)
	require.Equal(t, want.size, got.size)
	require.True(t, bytes.Equal(want.tar, got.tar), "the tars differ")
}

// lineageOf is what the store makes of an account.
func lineageOf(t Tester, a layertar.Account, lower string) layertar.Lineage {
	t.Helper()
	if l, ok := a.(layertar.Lineage); ok {
		return l
	}
	p, err := layertar.ReadParents(t.Context(), lower)
	require.NoError(t, err)
	return p.Lineage(a)
}

// TrackCost is what a comparison of two trees by a driver's account found, and what it cost.
type TrackCost struct {
	Changes []layertar.Change
	Looked  map[string]int // how often, at each path
	Names   int            // that both have, in the directories that were read for it
}

// CountTrack compares two trees by a driver's account.
func CountTrack(t Tester, lower, upper string, since time.Time, a layertar.Account) TrackCost {
	t.Helper()
	cost := TrackCost{Looked: map[string]int{}}
	var err error
	cost.Changes, err = layertar.Changes(t.Context(), lower, upper, layertar.CompareOptions{
		Snapshots: true, Since: since, Lineage: counting{lineageOf(t, a, lower), &cost.Names},
		Looked: func(path string) { cost.Looked[path]++ },
	})
	require.NoError(t, err)
	return cost
}

// counting counts the names that are asked about.
type counting struct {
	layertar.Lineage
	names *int
}

func (c counting) Same(inode uint64) bool {
	*c.names++
	return c.Lineage.Same(inode)
}

// Chain is what TrackLikeWalk does to a driver that it has no store around.
type Chain struct {
	Base   snapshot.Volume
	Create func(id snapshot.VolumeID, lower snapshot.Volume) snapshot.Volume
	Seal   func(snapshot.Volume) snapshot.Volume
	// With mounts a volume while use runs.
	With func(v snapshot.Volume, use func(dir string))
	// Track holds the driver's account of upper, which is mounted at dir, against a walk: see TracksLikeWalk.
	Track func(t Tester, lower, upper snapshot.Volume, since time.Time, dir string)
}

// TrackLikeWalk has volumes, one above the other, hold against a walk what the driver tells of them, whatever was done to their
// files: each while it is written to, the last when it is sealed, and whether or not the one below was changed a moment before.
func (c Chain) TrackLikeWalk(t *testing.T, most int) {
	tries, next := 0, snapshot.VolumeID(1)
	rapid.Check(t, func(r *rapid.T) {
		if tries++; tries > most {
			return
		}
		chain := []snapshot.Volume{c.Base}
		var frozen []time.Time
		tracked := func(upper snapshot.Volume, dir string) {
			for i, at := range frozen {
				c.Track(r, chain[i], upper, at, dir)
			}
		}
		var top snapshot.Volume
		for range rapid.IntRange(2, 3).Draw(r, "layers") {
			frozen = append(frozen, time.Now())
			top = c.Create(next, chain[len(chain)-1])
			next++
			c.With(top, func(dir string) {
				m := treetest.Mess{R: r, Dir: dir}
				for range 1 + rapid.IntRange(0, 25).Draw(r, "steps") {
					m.Step()
				}
				tracked(top, dir)
			})
			top = c.Seal(top)
			chain = append(chain, top)
			if rapid.Bool().Draw(r, "settles") {
				ClockGoesOn(r)
			}
		}
		c.With(top, func(dir string) { tracked(top, dir) })
	})
}
