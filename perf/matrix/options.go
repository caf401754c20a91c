package matrix

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"blockstore.dev/blockstore/perf"
)

// Options say what runs. The zero value is the whole matrix, as far as the kernel
// allows.
type Options struct {
	Workloads []string `json:"workloads"` // none: all
	Peers     []string `json:"peers"`     // none: all that can run here
	// Rounds are recorded, for each peer; 0 is ten, or fewer, but three at least, where
	// those of a peer in a workload have taken Enough.
	Rounds int `json:"rounds"`
	// Enough is 30 seconds unless it is set.
	Enough time.Duration `json:"enough"`
	// NoWarmUp leaves out the round before those.
	NoWarmUp bool  `json:"no_warm_up"`
	Scale    Scale `json:"scale"`
	// Dir is where everything lies, on a disk's file system.
	Dir string `json:"dir"`
	// Image is an OCI layout, DIR:REF, for what works on a real image; "" leaves that out.
	Image string `json:"image"`
	// Version is the program's own, for the report.
	Version string `json:"-"`
	// Counter is the command line that runs CountInside; without it no system calls are
	// counted.
	Counter []string `json:"-"`
	// Watch, if set, is told what happens; Finished, of each workload that is done.
	Watch    func(Progress)                             `json:"-"`
	Finished func(report *perf.Report, workload string) `json:"-"`
}

// Scale is how much is done. Zero values are the whole matrix's.
type Scale struct {
	FileSize   int64 `json:"file_size"`  // of the largest file, in bytes
	Layers     int   `json:"layers"`     // the most that are present
	Operations int   `json:"operations"` // of each kind in a round, where one is short
	Burst      int   `json:"burst"`      // containers that are made at once
	Files      int   `json:"files"`      // small ones
	// FioTime is how long each of fio's jobs runs that have no end of their own.
	FioTime time.Duration `json:"fio_time"`
	// FioRequests are those of the jobs that have one.
	FioRequests int `json:"fio_requests"`
}

// The whole matrix.
const (
	defaultRounds = 10
	slowRounds    = 3
	defaultEnough = 30 * time.Second
	mebibyte      = 1 << 20
)

func whole() Scale {
	return Scale{FileSize: 1 << 30, Layers: 1000, Operations: 10, Burst: 100, Files: 20_000, FioTime: 10 * time.Second, FioRequests: 1000}
}

// Progress is how far a run is.
type Progress struct {
	Doing       string
	Done, Total int           // steps
	Left        time.Duration // estimated; 0 until there is something to go by
}

// maxScale bounds what a typing error can ask for.
const maxScale = 1_000_000

// complete fills in what was not chosen, and refuses what cannot be.
func (o *Options) complete() error {
	w := whole()
	for _, v := range []struct {
		what string
		at   *int
		of   int
	}{
		{"layers", &o.Scale.Layers, w.Layers},
		{"operations", &o.Scale.Operations, w.Operations},
		{"burst", &o.Scale.Burst, w.Burst},
		{"files", &o.Scale.Files, w.Files},
		{"fio-requests", &o.Scale.FioRequests, w.FioRequests},
	} {
		if *v.at == 0 {
			*v.at = v.of
		}
		if *v.at < 1 || *v.at > maxScale {
			return fmt.Errorf("--%s %d: it must be 1 at least, and %d at most", v.what, *v.at, maxScale)
		}
	}
	if o.Scale.FileSize == 0 {
		o.Scale.FileSize = w.FileSize
	}
	if o.Enough == 0 {
		o.Enough = defaultEnough
	}
	if o.Scale.FioTime == 0 {
		o.Scale.FioTime = w.FioTime
	}
	switch {
	case o.Scale.FileSize < mebibyte || o.Scale.FileSize > 64<<30:
		return errors.New("--size: it must be 1 MiB at least, and 64 GiB at most")
	case o.Scale.FioTime < 0 || o.Scale.FioTime > time.Hour:
		return errors.New("--fio-time: it must be an hour at most")
	case o.Enough < 0:
		return errors.New("--enough: it must be more than 0")
	case o.Rounds < 0 || o.Rounds > maxScale:
		return fmt.Errorf("--rounds %d: it must be 1 at least, and %d at most", o.Rounds, maxScale)
	case o.Dir == "":
		o.Dir = perf.WorkDir()
	}
	for _, list := range [][]string{o.Workloads, o.Peers} {
		for i, name := range list {
			if slices.Contains(list[:i], name) {
				return fmt.Errorf("%s stands there twice", name)
			}
		}
	}
	return nil
}

// sizes are those of W1's files, in bytes, up to the largest.
func (s Scale) sizes() []int64 {
	all := []int64{1 * mebibyte, 16 * mebibyte, 64 * mebibyte, 256 * mebibyte, 1024 * mebibyte}
	if i := slices.IndexFunc(all, func(n int64) bool { return n > s.FileSize }); i >= 0 {
		all = all[:i]
	}
	return all
}

// crowds are how many layers are present while others work, up to the most.
func (s Scale) crowds() []int {
	return slices.DeleteFunc([]int{1, 100, 1000}, func(n int) bool { return n > s.Layers })
}

// volume is what a layer or container on a block device must hold: the largest file
// twice over, and what else is in it.
func (s Scale) volume() int64 { return max(2*s.FileSize, 512*mebibyte) + int64(s.Files)*8<<10 }

// imageRoom is what a real image must find room in.
const imageRoom = 4 << 30

// volume is Scale's, or what the image takes if that is more.
func (o Options) volume() int64 {
	if o.Image == "" {
		return o.Scale.volume()
	}
	return max(o.Scale.volume(), imageRoom)
}

// diskFor is the size of each site's sparse file, for volumes of that size.
func diskFor(volume int64) int64 { return 8*volume + 4<<30 }

// least is as little as shows what one operation calls.
func (s Scale) least() Scale {
	s.FileSize, s.Layers, s.Operations, s.Burst, s.Files = mebibyte, 1, 1, min(s.Burst, 4), min(s.Files, 16)
	s.FioTime = min(s.FioTime, 100*time.Millisecond)
	return s
}

func listed(names []string) string { return strings.Join(names, ", ") }
