package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"blockstore.dev/blockstore/internal/systrace"
	"blockstore.dev/blockstore/perf"
)

// countVerb is this program's first argument where it performs what is counted.
const countVerb = "count"

// counted are the rows with counts, by the mark of the operation in a trace.
func counted() []struct{ mark, row string } {
	return []struct{ mark, row string }{
		{"prepare", rowPrepare},
		{"mounts", rowMounts},
		{"remove", rowRemove},
		{"cleanup", rowCleanup},
		{"both", rowBoth},
		{"usage", rowUsage},
	}
}

// counts adds what the peers' operations call.
func counts(ctx context.Context, o options, report *perf.Report, dir string) error {
	tallies := map[string]map[string]systrace.Tally{}
	for _, name := range o.snapshotters {
		say("counting the calls of %s", name)
		var err error
		if tallies[name], err = count(ctx, o, dir, name); err != nil {
			return fmt.Errorf("counting the calls of %s: %w", name, err)
		}
	}
	for _, c := range counted() {
		for _, part := range perf.CallCounts() {
			of := map[string]int{}
			for _, name := range o.snapshotters {
				if calls, ok := tallies[name][c.mark]; ok {
					of[name] = part.Number(calls)
				}
			}
			addCounts(report, c.row, part.Name, of)
		}
	}
	return nil
}

// addCounts leaves out what nobody does.
func addCounts(report *perf.Report, row, part string, of map[string]int) {
	most := 0
	for _, n := range of {
		most = max(most, n)
	}
	for name, n := range of {
		if most > 0 {
			report.AddPart(row, part, perf.Count, name, float64(n))
		}
	}
}

// count performs each operation in a child under strace and returns its calls by the
// operation's mark.
func count(ctx context.Context, o options, dir, name string) (map[string]systrace.Tally, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	_, calls, err := perf.Traced(ctx, dir, append([]string{self, countVerb}, o.flags(name, dir)...)...)
	return calls, err
}

// countInside is the child: the operations once to wake everything up, and once
// between marks.
func countInside(ctx context.Context, o options) (err error) {
	var u perf.Undo
	defer func() { err = errors.Join(err, u.Run()) }()
	dir, err := os.MkdirTemp(o.dir, "bstest-count-")
	if err != nil {
		return err
	}
	u.Add(dir, func() error { return perf.RemoveDir(dir) })
	s, err := openMain(ctx, o, &u, dir, o.snapshotters[0], content(fileSize))
	if err != nil {
		return err
	}
	for _, marked := range []bool{false, true} {
		if err := s.perform(ctx, marked); err != nil {
			return err
		}
	}
	return nil
}

// perform does each operation that is counted, between marks or without.
func (s *site) perform(ctx context.Context, marked bool) error {
	key, other, name := s.key("one"), s.key("two"), s.key("empty")
	operations := map[string]func() error{
		"prepare": func() error { return second(s.Prepare(ctx, key, image)) },
		"mounts":  func() error { return second(s.Mounts(ctx, key)) },
		"remove":  func() error { return s.Remove(ctx, key) },
		"cleanup": func() error { return s.cleanUp(ctx) },
		"both": func() error {
			return errors.Join(second(s.Prepare(ctx, other, image)), s.Commit(ctx, name, other))
		},
		"usage": func() error {
			_, err := s.Usage(ctx, changed)
			return err
		},
	}
	for _, c := range counted() {
		if c.mark == "cleanup" && !s.leaves() {
			continue
		}
		if marked {
			systrace.Mark(c.mark)
		}
		err := operations[c.mark]()
		if marked {
			systrace.End()
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("%s: %w", c.mark, err)
		}
	}
	return s.remove(ctx, []string{name})
}
