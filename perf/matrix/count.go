package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"blockstore.dev/blockstore/internal/systrace"
	"blockstore.dev/blockstore/perf"
)

// countWait is how long a child has to clean up when the run is interrupted.
const countWait = 2 * time.Minute

// count adds what the peers' operations call, each in a child under strace.
func (b *bench) count(ctx context.Context, w workload, stands []*stand) error {
	if _, err := exec.LookPath("strace"); err != nil {
		return fmt.Errorf("counting system calls needs strace; leave it out with --no-counts, or install it: %w", err)
	}
	for _, s := range stands {
		b.progress.say(fmt.Sprintf("%s: counting the calls of %s", w.name, s.peer.Name))
		tallies, err := b.trace(ctx, w.name, s.peer.Name)
		if err != nil {
			return fmt.Errorf("counting the calls of %s in %s: %w", s.peer.Name, w.name, err)
		}
		for row, t := range tallies {
			if !b.report.Has(row) { // only at the scale that is counted
				continue
			}
			// The last stands first.
			b.report.AddPart(row, "waits for the disk", perf.Count, s.peer.Name, float64(t.Syncs()))
			b.report.AddPart(row, "ioctls", perf.Count, s.peer.Name, float64(t.Ioctls()))
			b.report.AddPart(row, "programs started", perf.Count, s.peer.Name, float64(t.Sum("execve")))
		}
	}
	return nil
}

// trace runs one workload on one peer and returns its calls by row.
func (b *bench) trace(ctx context.Context, workload, peer string) (map[string]systrace.Tally, error) {
	trace := filepath.Join(b.dir, "trace")
	defer os.Remove(trace)
	inside := b.o
	inside.Workloads, inside.Peers, inside.Dir = []string{workload}, []string{peer}, b.dir
	inside.Scale, inside.Rounds = b.o.Scale.counting(), 1
	text, err := json.Marshal(inside)
	if err != nil {
		return nil, err
	}
	args := append(systrace.Arguments(trace), append(b.o.Counter, string(text))...)
	cmd := exec.CommandContext(ctx, "strace", args...)
	// The child takes its own storage back: it is told to end, not killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = countWait
	said, err := perf.OutputOf(cmd)
	if err != nil {
		return nil, err
	}
	var rows []string
	if err := json.Unmarshal([]byte(said), &rows); err != nil {
		return nil, fmt.Errorf("the counted child said %q: %w", said, err)
	}
	f, err := os.Open(trace)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	byMark, err := systrace.Read(f)
	if err != nil {
		return nil, err
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
