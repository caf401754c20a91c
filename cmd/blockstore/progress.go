package main

import (
	"fmt"
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	// barAfter is how long something must take before it gets a bar.
	barAfter = time.Second
	// lineAfter is the same for a line where there is no terminal, and how long
	// it takes to the next line.
	lineAfter = 10 * time.Second
)

// task is one thing whose progress is shown: a layer, a file.
// It is used by one goroutine.
type task interface {
	// At says how many bytes are done, and of how many (0: unknown).
	At(done, total int64)
	// Done ends the task with a word in the place of the amount, such as "already
	// there".
	Done(word string)
}

// progress shows tasks on stderr.
type progress interface {
	Task(name string) task
	// Close takes the bars away, finished or not, and waits for the terminal.
	Close()
}

// newProgress picks bars for a terminal, and lines now and then otherwise.
func (a *app) newProgress() progress {
	switch {
	case a.json:
		return quiet{}
	case isTerminal(a.stderr):
		return &bars{p: mpb.New(mpb.WithOutput(a.stderr), mpb.WithWidth(40))}
	}
	verbose := a.logLevel == "info" || a.logLevel == "debug"
	return lines{w: a.stderr, now: time.Now, verbose: verbose}
}

type quiet struct{}

func (quiet) Task(string) task { return quiet{} }
func (quiet) At(_, _ int64)    {}
func (quiet) Done(string)      {}
func (quiet) Close()           {}

// lines is progress for logs: nothing for what is quick, a line each ten seconds
// for what is slow. verbose adds a line for each end.
type lines struct {
	w       io.Writer
	now     func() time.Time
	verbose bool
}

func (l lines) Close() {}

func (l lines) Task(name string) task {
	return &lineTask{lines: l, name: name, last: l.now()}
}

type lineTask struct {
	lines
	name string
	last time.Time
	told bool
	done int64
}

func (t *lineTask) At(done, total int64) {
	t.done = done
	now := t.now()
	if now.Sub(t.last) < lineAfter {
		return
	}
	t.last, t.told = now, true
	of := ""
	if total > 0 {
		of = " of " + amount(total)
	}
	fmt.Fprintf(t.w, "%s: %s%s\n", t.name, amount(done), of)
}

func (t *lineTask) Done(word string) {
	if t.told || t.verbose {
		fmt.Fprintf(t.w, "%s: %s, %s\n", t.name, amount(t.done), word)
	}
}

// bars draws on a terminal.
type bars struct {
	p    *mpb.Progress
	open []*barTask
}

func (b *bars) Task(name string) task {
	t := &barTask{owner: b, name: name, start: time.Now()}
	b.open = append(b.open, t)
	return t
}

func (b *bars) Close() {
	for _, t := range b.open {
		if t.bar != nil && !t.bar.Completed() {
			t.bar.Abort(true)
		}
	}
	b.p.Wait()
}

type barTask struct {
	owner *bars
	name  string
	start time.Time
	bar   *mpb.Bar
}

// At begins to draw once the task has shown itself to be slow.
func (t *barTask) At(done, total int64) {
	if t.bar == nil {
		if time.Since(t.start) < barAfter {
			return
		}
		t.bar = t.owner.p.AddBar(total,
			mpb.PrependDecorators(decor.Name(t.name+" ")),
			mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
				if s.Total > 0 {
					return amount(s.Current) + " of " + amount(s.Total)
				}
				return amount(s.Current)
			})))
	}
	t.bar.SetTotal(total, false)
	t.bar.SetCurrent(done)
}

func (t *barTask) Done(word string) {
	if t.bar != nil {
		t.bar.SetTotal(-1, true) // done is all there was
	}
}
