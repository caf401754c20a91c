package matrix

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
)

// space is W10: what a container takes that changes little of a large file.
func space() workload {
	return workload{
		name:   "W10",
		title:  "space: what a new container takes, by the account of its file system or pool, after four bytes into the middle of a lower layer's file, after scattered writes of 4 KiB into the same file, and after that file was removed and the free space trimmed; what another one takes after dpkg upgraded a package of its layer in it, of which every third file is another; and what the disk's own files hold more than before when each is gone",
		rounds: steadyRounds, warmsUp: true,
		only: oneOfAKind,
		prepare: func(ctx context.Context, s *stand) error {
			if err := errors.Join(s.largeLayer(ctx, s.scale.FileSize), s.packagedLayer(ctx)); err != nil {
				return err
			}
			if _, err := s.withoutSpares(ctx); err != nil {
				return err
			}
			var err error
			s.held, err = perf.Allocated(s.site.Dir)
			return err
		},
		round: func(ctx context.Context, s *stand) error {
			before, err := s.withoutSpares(ctx)
			if err != nil {
				return err
			}
			name := s.name("box")
			if err := s.Create(ctx, name, large); err != nil {
				return err
			}
			if err := errors.Join(s.changeLittle(ctx, name, before), s.Remove(ctx, name)); err != nil {
				return err
			}
			held, err := s.left(ctx, rowLeft(), s.held)
			if err != nil {
				return err
			}
			return s.upgrade(ctx, held)
		},
	}
}

// steadyRounds are enough where what is measured is the same in each round.
const steadyRounds = 2

// oneOfAKind leaves out who lays out the disk as another does.
func oneOfAKind(p peers.Peer) string {
	switch p.Name {
	case "btrfs-progs":
		return "it takes what " + peers.FloorOfBtrfs + " takes"
	case "dmsetup", "lvm":
		return "it takes what " + peers.FloorOfPool + " takes"
	case "zfs":
		return "it takes what " + peers.FloorOfZFS + " takes"
	}
	return ""
}

// Rows of W10.
func rowFourBytes(size int64) measure {
	return row(fmt.Sprintf("space of a container after four bytes into a file of %d MiB", size/mebibyte))
}

func rowScattered(writes int) measure {
	return row(fmt.Sprintf("space after %d scattered writes of 4 KiB", writes))
}

func rowTrimmed() measure { return row("space after the file was removed and trimmed") }

func rowLeft() measure { return row("held by the disk after the container was removed") }

// left records what the disk's files hold more than they held before, and says what they
// hold.
func (s *stand) left(ctx context.Context, m measure, before int64) (held int64, err error) {
	if _, err := s.withoutSpares(ctx); err != nil {
		return 0, err
	}
	if held, err = perf.Allocated(s.site.Dir); err == nil {
		s.record(m, perf.Bytes, float64(held-before))
	}
	return held, err
}

// scattered is how many blocks of 4 KiB are written.
func (s Scale) scattered() int { return min(s.FioRequests, int(s.FileSize/(4<<10))) }

// changeLittle changes the file, step by step.
func (s *stand) changeLittle(ctx context.Context, name string, before peers.Space) error {
	dir, err := s.Mount(ctx, name)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "file")
	size, writes := s.scale.FileSize, s.scale.scattered()
	changed := 0
	for _, step := range []struct {
		m     measure
		bytes int
		do    func() error
	}{
		{rowFourBytes(size), 4, func() error { return fourBytes(file, size/2) }},
		{rowScattered(writes), writes * 4 << 10, func() error { return scatter(file, size, writes) }},
		{rowTrimmed(), 0, func() error {
			err := errors.Join(os.Remove(file), perf.Flush(s.site.Dir))
			if err == nil {
				_, err = s.settled(ctx)
			}
			return err
		}},
	} {
		if err := errors.Join(step.do(), perf.Flush(s.site.Dir)); err != nil {
			return errors.Join(err, s.Unmount(ctx, name))
		}
		now, err := s.site.Space(ctx)
		if err != nil {
			return errors.Join(err, s.Unmount(ctx, name))
		}
		took := float64(now.Since(before).Sum())
		s.record(step.m, perf.Bytes, took)
		if changed += step.bytes; step.bytes > 4 {
			s.part(step.m, "of what was changed", perf.Times, took/float64(changed))
		}
	}
	return s.Unmount(ctx, name)
}

// scatter writes blocks of 4 KiB to that many places of a file, no two to one.
func scatter(file string, size int64, writes int) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	const block = 4 << 10
	random := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, block)
	for _, at := range random.Perm(int(size / block))[:writes] {
		if _, err = f.WriteAt(text, int64(at)*block); err != nil {
			break
		}
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// How long a site is watched until nothing more is given back: what frees space in the
// background does so in steps.
const (
	settleTries = 20
	settlePause = 100 * time.Millisecond
)

// settled waits until what was removed is given back, by file systems to their disks too,
// and says what the site takes then.
func (s *stand) settled(ctx context.Context) (peers.Space, error) {
	var last peers.Space
	var held int64
	for tries := range settleTries {
		err := errors.Join(perf.Flush(s.site.Dir), s.site.Settle(ctx), perf.Trim(s.site.Dir), ctx.Err())
		if err != nil {
			return last, err
		}
		now, err := s.site.Space(ctx)
		if err != nil {
			return last, err
		}
		onDisk, err := perf.Allocated(s.site.Dir)
		if err != nil || tries > 0 && now.Sum() >= last.Sum() && onDisk >= held {
			return now, err
		}
		last, held = now, onDisk
		time.Sleep(settlePause)
	}
	return last, nil
}

// withoutSpares is settled without the snapshots that our store keeps ready: they go
// when it is closed.
func (s *stand) withoutSpares(ctx context.Context) (peers.Space, error) {
	if ours, ok := s.Store.(*peers.Blockstore); ok {
		if err := ours.Reopen(ctx); err != nil {
			return peers.Space{}, err
		}
	}
	return s.settled(ctx)
}
