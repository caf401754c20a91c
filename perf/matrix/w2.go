package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/fio"
	"blockstore.dev/blockstore/perf/peers"
)

// large is a layer with one file.
const large = "large"

// largeLayer makes it.
func (s *stand) largeLayer(ctx context.Context, size int64) error {
	return s.Layer(ctx, large, "", func(root string) error { return fillRandom(filepath.Join(root, "file"), size, 1) })
}

// database is W2.
func database() workload {
	return workload{
		name:        "W2",
		title:       "database: 4 KiB random writes into a lower layer's file by fio, durable one by one, and 32 at a time with direct I/O; each in a fresh container, and then once more to the same places",
		fileSystems: true, programs: []string{"fio"}, only: inside, counted: inFull,
		prepare: func(ctx context.Context, s *stand) error { return s.largeLayer(ctx, s.scale.FileSize) },
		round: func(ctx context.Context, s *stand) error {
			for _, job := range []struct {
				file, what string
				requests   int
			}{
				{fio.Database, "durable writes", s.scale.FioRequests},
				{fio.Queue, "writes, 32 at a time", 20 * s.scale.FioRequests},
			} {
				err := s.inContainer(ctx, large, func(dir string) error {
					for _, pass := range []string{"first", "second"} {
						m := row(fmt.Sprintf("%d %s, %s pass, with fio's start", job.requests, job.what, pass)).withDisks()
						if err := s.fio(ctx, m, fio.Job{File: job.file, Dir: dir, Size: s.scale.FileSize, Requests: job.requests}); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// fio runs a job of one part, and records the time of the whole, which has in it what
// opening the file costs, with fio's own figures as parts.
func (s *stand) fio(ctx context.Context, m measure, j fio.Job) error {
	var results []fio.Result
	err := s.timed(m, func() (err error) { results, err = fio.Run(ctx, j); return err })
	if err != nil {
		return err
	}
	// The last stands first.
	s.part(m, "latency, 99th percentile", perf.Seconds, results[0].Latency.Seconds())
	s.part(m, "rate by fio", perf.PerSecond, results[0].Requests)
	return nil
}

// steady is W14.
func steady() workload {
	return workload{
		name:        "W14",
		title:       "steady load by fio, direct I/O, on a file that the container has written over before, so that all blocks are its own; below a rate stands what --fio-requests more of the kind make, until they are on disk",
		fileSystems: true, programs: []string{"fio"}, warmsUp: true, counted: once,
		only: func(p peers.Peer) string {
			if p.Name == "reflink" {
				return "a file that was written over is one like " + peers.OverlayOnXFS + "'s"
			}
			return inside(p)
		},
		prepare: func(ctx context.Context, s *stand) error { return s.largeLayer(ctx, s.scale.steady()) },
		round: func(ctx context.Context, s *stand) error {
			return s.inContainer(ctx, large, func(dir string) error {
				size := s.scale.steady()
				if err := errors.Join(overwrite(filepath.Join(dir, "file"), size), perf.Flush(s.site.Dir)); err != nil {
					return err
				}
				results, err := fio.Run(ctx, fio.Job{File: fio.Steady, Dir: dir, Size: size, Time: s.scale.FioTime})
				if err != nil {
					return err
				}
				if err := perf.Flush(s.site.Dir); err != nil { // what those have left is not of what is counted
					return err
				}
				for _, r := range results {
					m, streams := rowSteady(r.Name)
					if streams {
						s.record(m, perf.BytesPerSecond, r.Bytes)
					} else {
						s.record(m, perf.PerSecond, r.Requests)
					}
					s.part(m, "latency, 99th percentile", perf.Seconds, r.Latency.Seconds())
					err := s.countedOnly(m, func() error {
						_, err := fio.Run(ctx, fio.Job{File: fio.Steady, Part: r.Name, Dir: dir, Size: size, Requests: s.scale.FioRequests})
						return errors.Join(err, perf.Flush(s.site.Dir))
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// steady is the size of the file under steady load, in bytes.
func (s Scale) steady() int64 { return min(s.FileSize, 512*mebibyte) }

// rowSteady is the row of a part of the job.
func rowSteady(part string) (m measure, streams bool) {
	switch part {
	case "read":
		return row("128 KiB reads in order, depth 4"), true
	case "write":
		return row("128 KiB writes in order, depth 4"), true
	case "randread-1":
		return row("4 KiB random reads, depth 1"), false
	case "randread-32":
		return row("4 KiB random reads, depth 32"), false
	case "randwrite-1":
		return row("4 KiB random writes, depth 1"), false
	}
	return row("4 KiB random writes, depth 32"), false
}

// overwrite writes a whole file anew in place.
func overwrite(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	block := make([]byte, mebibyte)
	for at := int64(0); at < size && err == nil; at += int64(len(block)) {
		_, err = f.WriteAt(block[:min(size-at, int64(len(block)))], at)
	}
	return errors.Join(err, f.Sync(), f.Close())
}
