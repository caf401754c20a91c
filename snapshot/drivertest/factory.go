package drivertest

import (
	"os"
	"testing"

	"blockstore.dev/blockstore/snapshot"
)

// Ability is something that a kind of driver may be unable to do at all.
type Ability string

const (
	// SizeLimit: a volume holds no more than its size.
	SizeLimit Ability = "size-limit"
	// PointInTime: a snapshot of a volume that is being written to shows one
	// instant of it.
	PointInTime Ability = "point-in-time"
	// SpaceBack: the backing store's used space goes down after removal.
	SpaceBack Ability = "space-back"
	// BackingFiles: what the backing store holds is in files below the root, as far as
	// SpaceBack is concerned.
	BackingFiles Ability = "backing-files"
	// ExclusiveUsage: Usage.Added counts what was written and not more.
	ExclusiveUsage Ability = "exclusive-usage"
	// SealedByKernel: the kernel itself refuses writes to sealed volumes, through
	// whatever mount.
	SealedByKernel Ability = "sealed-by-kernel"
)

// Factory says how the suite makes stores over a driver.
type Factory struct {
	// Kind is the driver.
	Kind snapshot.Kind
	// Prepare, if set, changes the options of a store that is about to be made
	// (Root and BaseSize are set). It may register clean-ups of its own, which run
	// after the store was destroyed.
	Prepare func(t testing.TB, o *snapshot.InitOptions)
	// Dir makes a directory for the roots of stores; nil: one in the system's
	// temporary directory.
	Dir func(t testing.TB) string
	// BaseSize is the limit of ordinary stores, SmallSize of those that get filled:
	// as small as the driver allows. Zero: 512 MiB and 64 MiB.
	BaseSize, SmallSize int64
	// Scale divides the counts of the long cases (layers, creators, rounds), for
	// slow machines. 0 is 1.
	Scale int
	// Only are the names of the cases that Run runs, and of the operations that RunCrash
	// kills beside Init and Destroy, nil for all: for a second form of a driver that
	// differs from the first in a few things.
	Only []string
	// Unsupported abilities, each with the reason; the cases about them are
	// skipped with it.
	Unsupported map[Ability]string
	// Leaks lists what a driver left in the kernel for a store that was destroyed,
	// or that is closed with nothing mounted (destroyed is false). Mounts and loop
	// devices below the root are looked for anyway.
	Leaks func(root, storeID string, destroyed bool) ([]string, error)
	// Floors are what Bench compares the store with, beside the driver's bare calls.
	Floors map[string]Floor
	// Background names system calls, as Tally does, that the driver makes in its
	// own time; RunCounts leaves them out.
	Background []string
	// SpaceSlack is how many bytes of used space may stay after everything was
	// removed; 0: 4 MiB.
	SpaceSlack int64
	// WriteOverhead is how many bytes a volume may occupy beyond what was written
	// to it; 0: 8 MiB.
	WriteOverhead int64
}

func (f Factory) withDefaults() Factory {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&f.BaseSize, 512<<20)
	set(&f.SmallSize, 64<<20)
	set(&f.SpaceSlack, 4<<20)
	set(&f.WriteOverhead, 8<<20)
	if f.Scale == 0 {
		f.Scale = 1
	}
	if f.Dir == nil {
		f.Dir = func(t testing.TB) string {
			dir, err := os.MkdirTemp("", "bstest-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			})
			return dir
		}
	}
	return f
}

// scaled divides n, but not below least.
func (f Factory) scaled(n, least int) int { return max(n/f.Scale, least) }

// needs skips a case about something that the driver cannot do.
func (f Factory) needs(t *testing.T, a Ability) {
	t.Helper()
	if reason := f.Unsupported[a]; reason != "" {
		t.Skipf("%s: %s", a, reason)
	}
}
