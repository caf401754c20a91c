package matrix

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
)

// fanOut is W12, the row that block copy-on-write loses: what is read through one
// layer's containers is cached once for each.
func fanOut() workload {
	return workload{
		name:  "W12",
		title: "fan-out: 1, 10 and 50 containers of one layer, each new, read the same file, one after the other; and what the page cache grew by meanwhile",
		only:  inside, warmsUp: true, // each container is new
		prepare: func(ctx context.Context, s *stand) error {
			return s.largeLayer(ctx, s.scale.shared())
		},
		round: func(ctx context.Context, s *stand) error {
			for _, n := range s.scale.readers() {
				if err := s.readBy(ctx, n); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// shared is the size of the file that all read, in bytes.
func (s Scale) shared() int64 { return min(200*mebibyte, s.FileSize) }

// readers are how many read: as many as there is memory for in any case.
func (s Scale) readers() []int {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return []int{1}
	}
	var fit []int
	for _, n := range []int{1, 10, 50} {
		if n == 1 || uint64(n)*uint64(s.shared()) < info.Totalram*uint64(info.Unit)/2 {
			fit = append(fit, n)
		}
	}
	return fit
}

func rowFanOut(n int) measure { return scaled("read the same file", float64(n), "containers") }

func (s *stand) readBy(ctx context.Context, n int) (err error) {
	var dirs, names []string
	defer func() {
		for _, name := range names {
			err = errors.Join(err, s.Unmount(ctx, name), s.Remove(ctx, name))
		}
	}()
	for range n {
		name := s.name("reader")
		if err := s.Create(ctx, name, large); err != nil {
			return err
		}
		dir, err := s.Mount(ctx, name)
		if err != nil {
			return errors.Join(err, s.Remove(ctx, name))
		}
		names, dirs = append(names, name), append(dirs, dir)
	}
	if err := perf.Flush(s.site.Dir); err != nil {
		return err
	}
	before, err := cached()
	if err != nil {
		return err
	}
	m := rowFanOut(n).withDisks()
	err = s.timed(m, func() error {
		return each(dirs, 1, func(dir string) error { return perf.Warm(filepath.Join(dir, "file")) })
	})
	if err != nil {
		return err
	}
	after, err := cached()
	s.part(m, "grown page cache", perf.Bytes, max(0, after-before))
	return err
}

// cached is the page cache's size in bytes.
func cached() (float64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "Cached:"); ok {
			kibibytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			return float64(kibibytes) * 1024, err
		}
	}
	return 0, errors.New("/proc/meminfo does not say what is cached")
}

// restart is W13.
func restart() workload {
	return workload{
		name:  "W13",
		title: "restart: the store is closed and opened again, with 1, 100 and 1,000 layers in it; each size is a store of its own",
		only: func(p peers.Peer) string {
			if p.Ours() {
				return ""
			}
			return "it keeps nothing that has to be opened"
		},
		counted: once,
		prepare: crowds,
		round: func(ctx context.Context, s *stand) error {
			for i := range s.scale.Operations {
				for j := range s.crowds {
					c := s.crowds[(i+j)%len(s.crowds)]
					err := s.timed(rowReopen(c.layers), func() error { return c.Store.(*peers.Blockstore).Reopen(ctx) })
					if err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

func rowReopen(layers int) measure { return scaled("close and open again", float64(layers), "layers") }
