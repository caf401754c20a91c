package thin_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// TestAccountUnderRandomOperations: what volumes have alone and what they share, counted once, is what the pool has
// used, at every step; and removing volumes gives back what was said, to the byte.
func TestAccountUnderRandomOperations(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs string) {
		s := newStore(t, func(o *snapshot.InitOptions) { o.FileSystem = fs })
		accountant := s.driver.(snapshot.Accountant)
		r := rand.New(rand.NewPCG(7, uint64(len(fs))))
		volumes := []snapshot.Volume{s.base}
		next := snapshot.FirstVolumeID
		for range 25 {
			switch n := r.IntN(6); {
			case n < 2 || len(volumes) < 3:
				v := s.create(next, volumes[r.IntN(len(volumes))])
				volumes = append(volumes, v)
				next++
			case n < 5:
				v := volumes[1+r.IntN(len(volumes)-1)]
				s.with(v, false, func(dir string) { scribble(t, r, dir) })
			default:
				volumes = removeSome(t, s, r, volumes)
			}
			a, err := accountant.Account(t.Context())
			require.NoError(t, err)
			balanced(t, a, len(volumes))
			require.Equal(t, s.used(), a.Used)
			referenced, err := s.driver.Referenced(t.Context(), volumes...)
			require.NoError(t, err)
			for i, v := range volumes {
				u, err := s.driver.Usage(t.Context(), v)
				require.NoError(t, err)
				require.True(t, u.Exact)
				share := a.Volumes[v.ID]
				require.Equal(t, share.Exclusive+share.Shared, referenced[i])
				require.GreaterOrEqual(t, u.Added, int64(0))
				require.LessOrEqual(t, share.Exclusive, u.Added, "what it has alone it has not from its origin")
			}
		}
		require.NoError(t, s.driver.Remove(t.Context(), ids(volumes[1:])...))
		_, err := accountant.Freed(t.Context(), next)
		require.ErrorIs(t, err, snapshot.ErrNotFound)
	})
}

func balanced(t *testing.T, a snapshot.Account, volumes int) {
	t.Helper()
	require.Len(t, a.Volumes, volumes)
	sum := a.Shared
	for id, share := range a.Volumes {
		require.GreaterOrEqual(t, share.Exclusive, int64(0), "volume %d", id)
		require.GreaterOrEqual(t, share.Shared, int64(0), "volume %d", id)
		sum += share.Exclusive
	}
	require.Equal(t, a.Used, sum)
}

// scribble writes and removes files, and has all of it written out.
func scribble(t *testing.T, r *rand.Rand, dir string) {
	for range 1 + r.IntN(3) {
		path := filepath.Join(dir, fmt.Sprint("f", r.IntN(5)))
		if r.IntN(4) == 0 {
			require.NoError(t, os.RemoveAll(path))
			continue
		}
		b := bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(2<<20))
		require.NoError(t, os.WriteFile(path, b, 0o600))
	}
	d, err := os.Open(dir)
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, unix.Syncfs(int(d.Fd())))
}

// removeSome removes one volume or two, and compares what that gives back with what was said.
func removeSome(t *testing.T, s *store, r *rand.Rand, volumes []snapshot.Volume) []snapshot.Volume {
	first := 1 + r.IntN(len(volumes)-1)
	last := min(len(volumes), first+1+r.IntN(2))
	gone := ids(volumes[first:last])
	before := s.used()
	freed, err := s.driver.(snapshot.Accountant).Freed(t.Context(), gone...)
	require.NoError(t, err)
	require.NoError(t, s.driver.Remove(t.Context(), gone...))
	require.Equal(t, before-freed, s.used())
	return append(volumes[:first:first], volumes[last:]...)
}

func ids(volumes []snapshot.Volume) []snapshot.VolumeID {
	var list []snapshot.VolumeID
	for _, v := range volumes {
		list = append(list, v.ID)
	}
	return list
}

// TestAccountOfAThousandVolumes: counting may be done every ten seconds.
func TestAccountOfAThousandVolumes(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a thousand volumes")
	}
	s := newStore(t)
	layer := s.create(16, s.base)
	s.with(layer, false, func(dir string) { scribble(t, rand.New(rand.NewPCG(1, 1)), dir) })
	layer.Sealed = true
	for id := range snapshot.VolumeID(1000) {
		v := s.create(17+id, layer)
		if id%100 == 0 {
			s.with(v, false, func(dir string) { write(t, dir+"/own", "x") })
		}
	}
	began := time.Now()
	a, err := s.driver.(snapshot.Accountant).Account(t.Context())
	took := time.Since(began)
	require.NoError(t, err)
	balanced(t, a, 1002)
	t.Logf("counted 1002 volumes in %s", took)
	require.Less(t, took, 5*time.Second)
}
