package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"blockstore.dev/blockstore/perf"
)

// rounds is how often this peer takes part.
func (p *peer) rounds() int {
	if p.name == "vfs" {
		return p.o.vfsRounds
	}
	return p.o.rounds
}

// crowd is how many containers this peer makes in a round.
func (p *peer) crowd() int {
	if p.name == "vfs" {
		return p.o.vfsCrowd
	}
	return p.o.containers
}

// step is one of those that a peer's round consists of.
type step struct {
	what string
	run  func(context.Context) error
}

// round is everything once, of one peer. It begins and ends without images and containers.
func (p *peer) round(ctx context.Context, large largeImage) error {
	create := step{"create", func(ctx context.Context) error { return p.create(ctx, p.crowdNames()) }}
	return p.take(ctx, slices.Concat(p.before(), []step{create}, p.after(large))...)
}

// before is what comes before containers are created.
func (p *peer) before() []step {
	if p.name == floor {
		return []step{{"load", p.load}}
	}
	return []step{{"load without dockerd", p.loadAlone}, {"load", p.load}}
}

// after is what comes when they have been created.
func (p *peer) after(large largeImage) []step {
	if p.name == floor {
		return []step{{"rm", p.removeCrowd}, {"rmi", p.removeImage}}
	}
	return []step{
		{"allocation", func(ctx context.Context) error { return p.allocation(ctx, "allocated: the image and the containers") }},
		{"run", p.runTrue},
		{"change, diff, commit", p.change},
		{"save", p.save},
		{"rm", p.removeCrowd},
		{"the large file's image", func(ctx context.Context) error { return large.load(ctx, p) }},
		{"first write, cold", p.coldWrite},
		{"first write and overwrites, warm", p.warmWrites},
		{"rmi", p.removeImages},
		{"allocation", func(ctx context.Context) error { return p.allocation(ctx, "allocated: everything removed") }},
	}
}

// take takes steps one after the other.
func (p *peer) take(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		err := s.run(ctx)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w\nthe end of dockerd's log:\n%s", p.name, s.what, err, p.daemon.tail())
		}
	}
	return nil
}

// turn is how many containers a peer creates before it is the next one's turn: what creations take differs little, and
// a machine is slower and faster from minute to minute.
const turn = 10

// createInTurns creates the containers of all peers.
func createInTurns(ctx context.Context, peers []*peer) error {
	names := map[*peer][]string{}
	for _, p := range peers {
		names[p] = p.crowdNames()
	}
	order := slices.Clone(peers)
	for left := len(order); left > 0; slices.Reverse(order) {
		left = 0
		for _, p := range order {
			n := min(turn, len(names[p]))
			create := step{"create", func(ctx context.Context) error { return p.create(ctx, names[p][:n]) }}
			if err := p.take(ctx, create); err != nil {
				return err
			}
			names[p] = names[p][n:]
			left += len(names[p])
		}
	}
	return nil
}

func (p *peer) load(ctx context.Context) error {
	if err := perf.Warm(p.o.archive); err != nil {
		return err
	}
	_, c, err := p.timed(p.command(ctx, "load", "--input", p.o.archive))
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := perf.Flush(p.dir); err != nil {
		return err
	}
	p.add(rowLoad, c, 1)
	// The kernel has time for what a driver leaves to it, but until then a power
	// cut takes it.
	p.report.AddPart(rowLoad, "and until all of it is on disk", perf.Seconds, p.name, (c.wall + time.Since(begin)).Seconds())
	return nil
}

// loadAlone has our store take the archive by its own command, of the same server, and give it back.
func (p *peer) loadAlone(ctx context.Context) error {
	if p.server == nil {
		return nil
	}
	if err := perf.Warm(p.o.archive); err != nil {
		return err
	}
	_, c, err := p.timed(p.storeCommand(ctx, "load", "--input", p.o.archive))
	if err != nil {
		return err
	}
	if p.counted != nil {
		p.addCalls(rowLoadAlone, c.calls)
	} else {
		p.report.Add(rowLoadAlone, perf.Seconds, p.name, c.wall.Seconds())
	}
	for _, args := range [][]string{{"rmi", p.o.ref}, {"gc"}} {
		if _, err := perf.OutputOf(p.storeCommand(ctx, args...)); err != nil {
			return err
		}
	}
	return nil
}

func (p *peer) crowdNames() []string {
	var names []string
	for i := range p.crowd() {
		names = append(names, fmt.Sprintf("bstest-crowd-%d", i))
	}
	return names
}

// create makes containers one right after the other: a pause after each would be in the figure, since it
// lets two processes' caches grow cold where a driver of dockerd's own has one.
func (p *peer) create(ctx context.Context, names []string) error {
	args := func(name string) []string {
		return []string{"create", "--net", "none", "--name", name, p.o.ref, "true"}
	}
	if p.counted != nil {
		for _, name := range names {
			if _, err := p.measure(ctx, rowCreate, args(name)...); err != nil {
				return err
			}
		}
		return nil
	}
	var cmds []*exec.Cmd
	for _, name := range names {
		cmds = append(cmds, p.command(ctx, args(name)...))
	}
	_, c, err := p.timedInARow(cmds...)
	if err == nil {
		p.addEach(rowCreate, c)
	}
	return err
}

func (p *peer) runTrue(ctx context.Context) error {
	for range p.o.runs {
		if _, err := p.measure(ctx, "docker ps", "ps"); err != nil {
			return err
		}
		if _, err := p.measure(ctx, "docker run --rm, true", "run", "--rm", "--net", "none", p.o.ref, "true"); err != nil {
			return err
		}
	}
	return nil
}

// The change of a container: one file appended to, one new, one deleted.
const changeScript = "echo changed >>/etc/debian_version; echo new >/srv/new; rm /etc/issue.net"

// changes are the lines of docker diff that this makes on every driver.
func changes() []string { return []string{"C /etc/debian_version", "A /srv/new", "D /etc/issue.net"} }

const (
	changed    = "bstest-changed"
	changedRef = "bstest/changed:1"
)

func (p *peer) change(ctx context.Context) error {
	if _, err := p.docker(ctx, "run", "--name", changed, "--net", "none", p.o.ref, "sh", "-c", changeScript); err != nil {
		return err
	}
	diff, err := p.measure(ctx, "docker diff after a small change", "diff", changed)
	if err != nil {
		return err
	}
	for _, line := range changes() {
		if !strings.Contains("\n"+diff+"\n", "\n"+line+"\n") {
			return fmt.Errorf("docker diff of %s does not say %q but:\n%s", p.name, line, diff)
		}
	}
	if _, err := p.measure(ctx, "docker commit after a small change", "commit", changed, changedRef); err != nil {
		return err
	}
	_, err = p.docker(ctx, "rm", changed)
	return err
}

// save writes into the null device: what it takes is the reading.
func (p *peer) save(ctx context.Context) error {
	cmd := p.command(ctx, "save", p.o.ref)
	closeIt, err := toNowhere(cmd)
	if err != nil {
		return err
	}
	_, c, err := p.timed(cmd)
	if err == nil {
		p.add("docker save of the real image", c, 1)
	}
	return errors.Join(err, closeIt())
}

func (p *peer) removeCrowd(ctx context.Context) error {
	names := p.crowdNames()
	_, c, err := p.timed(p.command(ctx, append([]string{"rm"}, names...)...))
	if err != nil {
		return err
	}
	if len(names) == p.o.containers {
		p.add(fmt.Sprintf("docker rm of %d containers, one command", len(names)), c, 1)
	}
	p.add("docker rm, a container of those", c, len(names))
	return nil
}

func (p *peer) removeImages(ctx context.Context) error {
	if _, err := p.docker(ctx, "rmi", changedRef, largeRef); err != nil {
		return err
	}
	return p.removeImage(ctx)
}

func (p *peer) removeImage(ctx context.Context) error {
	_, err := p.measure(ctx, "docker rmi of the real image", "rmi", p.o.ref)
	return err
}

// writeIn runs this program in a container of the large image. before comes
// between the container's making and its start.
func (p *peer) writeIn(ctx context.Context, before func() error, flags ...string) (written, error) {
	const name = "bstest-write"
	var w written
	args := append([]string{"create", "--net", "none", "--name", name, largeRef, writer, writeVerb, "--file", largeFile}, flags...)
	if _, err := p.measure(ctx, "docker create, image with the large file", args...); err != nil {
		return w, err
	}
	if err := before(); err != nil {
		return w, err
	}
	out, err := p.docker(ctx, "start", "--attach", name)
	if err != nil {
		return w, err
	}
	if err := json.Unmarshal([]byte(out), &w); err != nil {
		return w, fmt.Errorf("what the container printed: %w: %q", err, out)
	}
	return w, nil
}

func (p *peer) removeWriter(ctx context.Context) error {
	_, err := p.measure(ctx, "docker rm, a container with a changed large file", "rm", "bstest-write")
	return err
}

func (p *peer) coldWrite(ctx context.Context) error {
	var before int64
	w, err := p.writeIn(ctx, func() error {
		var err error
		if before, err = p.trimmed(ctx); err != nil {
			return err
		}
		return dropCaches()
	})
	if err != nil {
		return err
	}
	p.report.Add(rowColdWrite, perf.Seconds, p.name, w.First.Seconds())
	after, err := p.trimmed(ctx)
	if err != nil {
		return err
	}
	p.report.Add("first write: allocated more", perf.Bytes, p.name, float64(after-before))
	return p.removeWriter(ctx)
}

func (p *peer) warmWrites(ctx context.Context) error {
	w, err := p.writeIn(ctx, func() error { return nil }, "--warm", "--overwrites", fmt.Sprint(p.o.overwrites))
	if err != nil {
		return err
	}
	n := float64(p.o.overwrites)
	p.report.Add("first write: four bytes, warm", perf.Seconds, p.name, w.First.Seconds())
	p.report.Add("then a random overwrite of 4 KiB, fdatasync each", perf.Seconds, p.name, w.Durable.Seconds()/n)
	p.report.Add("then a random overwrite of 4 KiB, one fdatasync for all", perf.Seconds, p.name, w.Batch.Seconds()/n)
	return p.removeWriter(ctx)
}

// trimTries bounds the waiting for file systems that free in the background.
const (
	trimTries = 5
	trimPause = time.Second
)

// trimmed is what the peer's files hold without what is free in them. It asks
// until the answer stays the same: btrfs gives whole chunks back a while later.
func (p *peer) trimmed(ctx context.Context) (int64, error) {
	if p.server != nil { // what was removed may still be going, in the background
		if _, err := perf.OutputOf(p.storeCommand(ctx, "gc")); err != nil {
			return 0, err
		}
	}
	last := int64(-1)
	for range trimTries {
		if err := trim(ctx, p.dir); err != nil {
			return 0, err
		}
		now, err := perf.Allocated(p.backing...)
		if err != nil || now == last {
			return now, err
		}
		last = now
		time.Sleep(trimPause)
	}
	return last, nil
}

func (p *peer) allocation(ctx context.Context, row string) error {
	bytes, err := p.trimmed(ctx)
	if err == nil {
		p.report.Add(row, perf.Bytes, p.name, float64(bytes))
	}
	return err
}
