package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
)

// victim is a container whose writer must not suffer.
const victim = "victim"

// idleTime is how long the writer is watched while nothing else happens.
const idleTime = time.Second

// singly is how much fewer layers are removed one after the other than in one go.
const singly = 10

// deletion is W9.
func deletion() workload {
	return workload{
		name: "W9",
		title: "delete: many layers removed in one go, by one call or command where the peer has that, beside a container in which somebody writes 4 KiB " +
			"and waits for the disk, again and again; then fewer, one after the other",
		counted: inFull,
		prepare: func(ctx context.Context, s *stand) error {
			return errors.Join(s.Layer(ctx, small, "", fillSmall), s.Create(ctx, victim, small))
		},
		round: func(ctx context.Context, s *stand) error {
			many, err := s.doomed(ctx, s.scale.Layers)
			if err != nil {
				return err
			}
			dir, err := s.Mount(ctx, victim)
			if err != nil {
				return err
			}
			if err := errors.Join(s.deleteBeside(ctx, dir, many), s.Unmount(ctx, victim)); err != nil {
				return err
			}
			few, err := s.doomed(ctx, max(1, s.scale.Layers/singly))
			if err != nil {
				return err
			}
			if err := perf.Flush(s.site.Dir); err != nil {
				return err
			}
			return s.timed(rowRemove(len(few), false).withDisks(), func() error {
				return each(few, 1, func(name string) error { return s.Remove(ctx, name) })
			})
		},
	}
}

// doomed makes layers with a file of their own each.
func (s *stand) doomed(ctx context.Context, n int) ([]string, error) {
	names := make([]string, n)
	for i := range names {
		names[i] = s.name("doomed")
		err := s.Layer(ctx, names[i], small, func(root string) error {
			return fillRandom(filepath.Join(root, "own"), 256<<10, byte(i))
		})
		if err := errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func rowRemove(n int, oneGo bool) measure {
	if oneGo {
		return row(fmt.Sprintf("remove %d layers in one go", n))
	}
	return row(fmt.Sprintf("remove %d layers, one after the other", n))
}

func (s *stand) deleteMany(ctx context.Context, names []string) error {
	return s.timed(rowRemove(len(names), true).withDisks(), func() error { return s.removeMany(ctx, names) })
}

// removeMany is one call or command where the peer has one.
func (s *stand) removeMany(ctx context.Context, names []string) error {
	if r, ok := s.Store.(peers.ManyRemover); ok {
		return r.RemoveMany(ctx, names)
	}
	return each(names, 1, func(name string) error { return s.Remove(ctx, name) })
}

func (s *stand) deleteBeside(ctx context.Context, dir string, names []string) error {
	if err := perf.Flush(s.site.Dir); err != nil {
		return err
	}
	if s.marks != nil { // the writer's calls are not the removals'
		return s.deleteMany(ctx, names)
	}
	idle, err := watchWriter(dir, func() error {
		time.Sleep(idleTime)
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	busy, err := watchWriter(dir, func() error {
		err := s.deleteMany(ctx, names)
		// What it left for later, itself or to the kernel, is the writer's load too.
		if r, ok := s.Store.(peers.Settler); ok {
			err = errors.Join(err, r.Settle(ctx))
		}
		return errors.Join(err, perf.Flush(s.site.Dir))
	})
	if err != nil {
		return err
	}
	s.record(rowVictim(true), perf.Seconds, busy.Quantile(0.99))
	s.record(rowVictim(false), perf.Seconds, idle.Quantile(0.99))
	return nil
}

func rowVictim(busy bool) measure {
	if busy {
		return row("a durable write beside the removals, 99th percentile")
	}
	return row("a durable write while nothing else happens, 99th percentile")
}

// watchWriter writes durably, again and again, while do runs, and returns how long
// each write took, in seconds.
func watchWriter(dir string, do func() error) (perf.Samples, error) {
	f, err := os.OpenFile(filepath.Join(dir, "written"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	var took perf.Samples
	go func() {
		block := make([]byte, 4<<10)
		for i := int64(0); ; i++ {
			begin := time.Now()
			_, err := f.WriteAt(block, i%256*int64(len(block)))
			err = errors.Join(err, unix.Fdatasync(int(f.Fd())))
			took = append(took, time.Since(begin).Seconds())
			select {
			case <-stop:
				ended <- err
				return
			default:
			}
			if err != nil {
				<-stop
				ended <- err
				return
			}
		}
	}()
	err = do()
	close(stop)
	err = errors.Join(err, <-ended, f.Close()) // before took is read, which the writer has until then
	return took, err
}
