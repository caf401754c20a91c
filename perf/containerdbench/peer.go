package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"blockstore.dev/blockstore/perf"
)

// The committed snapshots that every main site has.
const (
	small   = "small"   // a file of 4 KiB
	image   = "image"   // ten files of 1 MiB
	hundred = "hundred" // the files for usage
	changed = "changed" // active, on hundred, one byte changed
)

// smallFile is a size in bytes.
const smallFile = 4 << 10

// peer is a snapshotter that takes part.
type peer struct {
	name   string
	o      options // of the round that runs
	report *perf.Report
	quiet  bool   // nothing is recorded
	dir    string // everything of this peer's
	data   []byte // a file's content
	main   *site
	crowds []crowd
}

// crowd is a site with snapshots that stay.
type crowd struct {
	*site
	present int
}

// startPeer makes the peer's sites and fills them.
func startPeer(ctx context.Context, o options, report *perf.Report, u *perf.Undo, dir, name string) (*peer, error) {
	p := &peer{name: name, o: o, report: report, dir: filepath.Join(dir, strings.ReplaceAll(name, "/", "-")), data: content(fileSize)}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if p.main, err = openMain(ctx, o, u, p.dir, name, p.data); err != nil {
		return nil, err
	}
	for _, n := range o.crowds {
		say("%s: a site with %d snapshots", name, n)
		s, err := openCrowd(ctx, o, u, p.dir, name, n)
		if err != nil {
			return nil, fmt.Errorf("%s with %d snapshots: %w", name, n, err)
		}
		p.crowds = append(p.crowds, crowd{s, n})
	}
	report.Columns = append(report.Columns, perf.Column{Name: name, Note: kindOf(name).note})
	return p, perf.Flush(p.dir)
}

// openMain makes the site that most rows are of.
func openMain(ctx context.Context, o options, u *perf.Undo, dir, name string, data []byte) (*site, error) {
	s, err := openSite(ctx, o, u, dir, name, "main")
	if err != nil {
		return nil, err
	}
	if err := s.fill(ctx, data); err != nil {
		return nil, fmt.Errorf("filling %s: %w", name, err)
	}
	return s, nil
}

func (s *site) fill(ctx context.Context, data []byte) error {
	if err := s.layer(ctx, small, "", fillFiles(1, data[:smallFile])); err != nil {
		return err
	}
	if err := s.layer(ctx, image, "", fillLayer(1, data)); err != nil {
		return err
	}
	if err := s.layer(ctx, hundred, "", fillFiles(s.o.usageFiles, data)); err != nil {
		return err
	}
	mounts, err := s.Prepare(ctx, changed, hundred)
	if err != nil {
		return err
	}
	return change(ctx, mounts, func(root string) error {
		return overwrite(filepath.Join(root, "file-0"), fileSize/2, []byte{1})
	})
}

// openCrowd makes a site with n active snapshots on a small layer.
func openCrowd(ctx context.Context, o options, u *perf.Undo, dir, name string, n int) (*site, error) {
	s, err := openSite(ctx, o, u, dir, name, fmt.Sprint("crowd-", n))
	if err != nil {
		return nil, err
	}
	if err := s.layer(ctx, small, "", fillFiles(1, content(smallFile))); err != nil {
		return nil, err
	}
	for range n {
		if _, err := s.Prepare(ctx, s.key("crowd"), small); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// add records a sample.
func (p *peer) add(row string, took time.Duration) {
	if !p.quiet {
		p.report.Add(row, perf.Seconds, p.name, took.Seconds())
	}
}

// addPart records a sample of a part of a row.
func (p *peer) addPart(of, part string, took time.Duration) {
	if !p.quiet {
		p.report.AddPart(of, part, perf.Seconds, p.name, took.Seconds())
	}
}

// timed says how long do took.
func timed(do func() error) (time.Duration, error) {
	begin := time.Now()
	err := do()
	return time.Since(begin), err
}
