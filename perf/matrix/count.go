package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"blockstore.dev/blockstore/internal/systrace"
	"blockstore.dev/blockstore/perf"
)

// count adds what the peers' operations call, each in a child under strace.
func (b *bench) count(ctx context.Context, w workload, stands []*stand) error {
	if err := perf.CanTrace(); err != nil {
		return err
	}
	for _, s := range stands {
		if w.counted == inFull && s.peer.Commands() {
			continue
		}
		b.progress.say(fmt.Sprintf("%s: counting the calls of %s", w.name, s.peer.Name))
		tallies, err := b.trace(ctx, w, s.peer.Name)
		if err != nil {
			return fmt.Errorf("counting the calls of %s in %s: %w", s.peer.Name, w.name, err)
		}
		for row, t := range tallies {
			if !b.report.Has(row) { // only at the scale that is counted
				continue
			}
			for _, c := range perf.CallCounts() {
				b.report.AddPart(row, c.Name, perf.Count, s.peer.Name, float64(c.Number(t)))
			}
		}
	}
	return nil
}

// trace runs one workload on one peer and returns its calls by row.
func (b *bench) trace(ctx context.Context, w workload, peer string) (map[string]systrace.Tally, error) {
	inside := b.o
	inside.Workloads, inside.Peers, inside.Dir = []string{w.name}, []string{peer}, b.dir
	inside.Rounds = 1
	if w.counted == once {
		inside.Scale = b.o.Scale.least()
	}
	text, err := json.Marshal(inside)
	if err != nil {
		return nil, err
	}
	said, byMark, err := perf.Traced(ctx, b.dir, append(slices.Clone(b.o.Counter), string(text))...)
	if err != nil {
		return nil, err
	}
	var rows []string
	if err := json.Unmarshal([]byte(said), &rows); err != nil {
		return nil, fmt.Errorf("the counted child said %q: %w", said, err)
	}
	tallies := map[string]systrace.Tally{}
	for i, row := range rows {
		tallies[row] = byMark[letters(i)]
	}
	return tallies, nil
}

// CountInside is the child that is traced: it does what the options in text say, with
// a mark at the begin and end of each operation, and prints the operations' rows in
// the order of the marks.
func CountInside(ctx context.Context, text string, stdout io.Writer) error {
	var o Options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return fmt.Errorf("options of what is counted: %w", err)
	}
	b := &bench{o: o, marks: &marks{rows: []string{}}}
	return errors.Join(b.alone(ctx), json.NewEncoder(stdout).Encode(b.marks.rows))
}

// alone runs without a report that anybody sees.
func (b *bench) alone(ctx context.Context) (err error) {
	if err := b.o.complete(); err != nil {
		return err
	}
	var u perf.Undo
	defer func() { err = errors.Join(err, u.Run()) }()
	if b.dir, err = os.MkdirTemp(b.o.Dir, "bstest-matrix-count-"); err != nil {
		return err
	}
	u.Add(b.dir, func() error { return perf.RemoveDir(b.dir) })
	b.report = &perf.Report{}
	if err := errors.Join(b.chooseWorkloads(), b.choosePeers(ctx)); err != nil {
		return err
	}
	for _, w := range b.workloads {
		if err := b.run(ctx, w); err != nil {
			return err
		}
	}
	return nil
}
