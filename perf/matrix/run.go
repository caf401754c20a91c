package matrix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
)

// bench is one run.
type bench struct {
	o         Options
	dir       string
	report    *perf.Report
	workloads []workload
	peers     []peers.Peer
	marks     *marks
	sites     int
	progress  progress
}

// Run measures, and returns what it found. A workload that fails is listed as not run, with
// its reason, and the others are measured still; the report comes with an error then. After
// an interruption it has what was measured by then, and is nil if that is nothing. In neither case is anything left of the run.
func Run(ctx context.Context, o Options) (_ *perf.Report, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("benchmarks mount file systems and make loop devices: they need root")
	}
	b := &bench{o: o}
	var u perf.Undo
	defer func() { err = errors.Join(err, u.Run()) }()
	if b.dir, err = os.MkdirTemp(o.Dir, "bstest-matrix-"); err != nil {
		return nil, err
	}
	u.Add(b.dir, func() error { return perf.RemoveDir(b.dir) })
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return nil, err
	}
	if err := b.begin(ctx); err != nil {
		return nil, err
	}
	err = b.runAll(ctx)
	b.aim()
	if stopped := ctx.Err(); stopped != nil {
		return b.report.Stopped(cmp.Or(err, stopped)) // it need not have failed anything
	}
	return b.report, err
}

// runAll measures as much as can be.
func (b *bench) runAll(ctx context.Context) error {
	var failed []error
	for _, w := range b.workloads {
		err := b.run(ctx, w)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", w.name, err))
		}
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			b.report.NotRun = append(b.report.NotRun, perf.NotRun{Workload: w.name, Reason: "it failed: " + err.Error()})
		}
		if b.o.Finished != nil {
			b.o.Finished(b.report, w.name)
		}
	}
	return errors.Join(failed...)
}

// run is a workload on all peers that can do it.
func (b *bench) run(ctx context.Context, w workload) (err error) {
	var u perf.Undo
	defer func() {
		b.progress.say("cleaning up after " + w.name)
		err = errors.Join(err, u.Run())
	}()
	var stands []*stand
	for _, p := range b.takePart(w) {
		s, err := b.prepare(ctx, w, p, &u)
		if err != nil {
			return err
		}
		if s != nil {
			stands = append(stands, s)
		}
	}
	for round := range b.mostRounds(w) + 1 {
		for _, s := range stands {
			if err := b.round(ctx, s, round); err != nil {
				return err
			}
		}
		stands = turned(stands)
	}
	if w.counted != notAtAll && len(b.o.Counter) > 0 {
		err = b.count(ctx, w, stands)
	}
	b.report.DropEmptyParts()
	return err
}

// prepare makes a stand; none for a peer that finds that it cannot do this.
func (b *bench) prepare(ctx context.Context, w workload, p peers.Peer, u *perf.Undo) (*stand, error) {
	b.progress.say(fmt.Sprintf("%s: preparing %s", w.name, p.Name))
	s, err := b.openStand(ctx, w, p, u)
	b.progress.step()
	if errors.Is(err, peers.ErrCannot) {
		b.report.NotRun = append(b.report.NotRun, perf.NotRun{Workload: w.name, Column: p.Name, Reason: err.Error()})
		b.progress.total -= b.mostRounds(w) + 1
		return nil, nil
	}
	return s, errors.Join(err, ctx.Err())
}

// mostRounds is how many are recorded of a quick peer.
func (b *bench) mostRounds(w workload) int {
	most := defaultRounds
	if b.o.Rounds > 0 {
		most = b.o.Rounds
	}
	if w.rounds > 0 {
		most = min(most, w.rounds)
	}
	return most
}

// round lets a stand have its turn. Round 0 is the one that warms up.
func (b *bench) round(ctx context.Context, s *stand, round int) error {
	defer b.progress.step()
	enough := b.o.Rounds == 0 && s.spent >= b.o.Enough && s.rounds >= slowRounds
	if enough || round == 0 && (b.o.NoWarmUp || s.workload.warmsUp) {
		return nil
	}
	s.quiet = round == 0
	what := fmt.Sprintf("%s: %s, round %d of %d", s.workload.name, s.peer.Name, round, b.mostRounds(s.workload))
	if s.quiet {
		what = fmt.Sprintf("%s: warming up %s", s.workload.name, s.peer.Name)
	}
	b.progress.say(what)
	begin := time.Now()
	if err := s.workload.round(ctx, s); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !s.quiet {
		s.rounds++
		s.spent += time.Since(begin)
	}
	return errors.Join(perf.Flush(s.site.Dir), ctx.Err())
}

// turned lets another begin: each peer meets every place in the order, and what the
// one before it left to do in the background.
func turned[T any](order []T) []T {
	if len(order) == 0 {
		return order
	}
	return append(slices.Clone(order[1:]), order[0])
}

// takePart are the peers of a workload.
func (b *bench) takePart(w workload) []peers.Peer {
	return slices.DeleteFunc(slices.Clone(b.peers), func(p peers.Peer) bool { return w.excludes(p) != "" })
}

// progress counts steps: a preparation or a round of one peer.
type progress struct {
	watch       func(Progress)
	done, total int
	begun       time.Time
	now         func() time.Time
}

func (p *progress) say(what string) {
	if p.watch == nil {
		return
	}
	var left time.Duration
	if p.done > 0 && p.total > p.done {
		left = p.now().Sub(p.begun) / time.Duration(p.done) * time.Duration(p.total-p.done)
	}
	p.watch(Progress{Doing: what, Done: p.done, Total: p.total, Left: left})
}

func (p *progress) step() { p.done++ }
