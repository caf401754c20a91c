package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"blockstore.dev/blockstore/internal/size"
	"blockstore.dev/blockstore/snapshot"
)

const (
	// keptEvents is how many events somebody who comes later is shown.
	keptEvents = 64
	// pendingEvents is how many a slow reader may have before it.
	pendingEvents = 256
)

// watchFlags say how the backing store is kept from filling up.
type watchFlags struct {
	extendAt, extendBy, extendTo, whenFull string
	every                                  time.Duration
}

// watchHelp is what all verbs say that have these flags.
const watchHelp = `On devicemapper, the pool is extended before it is full: a loopback file, or a pool
in the volume group that "init --device" made; devices are used as far as they have
been enlarged. What a pool is short of, and what has become of it, is told.`

func (w *watchFlags) add(f *pflag.FlagSet) {
	f.StringVar(&w.extendAt, "extend-at", "80%", "extend data and metadata of the pool when `PERCENT` are used; \"never\" only warns")
	f.StringVar(&w.extendBy, "extend-by", "20%", "extend by `PERCENT|SIZE`; percent are at least 1 GiB of data")
	f.StringVar(&w.extendTo, "extend-to", "", "extend the data to at most `SIZE` (default: what there is room for)")
	f.StringVar(&w.whenFull, "when-full", snapshot.WhenFullGrow, "what writers to a full pool do: wait while it can grow (`grow|queue|fail`), wait, or fail")
	f.DurationVar(&w.every, "watch-every", 10*time.Second, "look at the pool at least this often")
}

// changed says whether any was given.
func (w *watchFlags) changed(f *pflag.FlagSet) bool {
	for _, name := range []string{"extend-at", "extend-by", "extend-to", "when-full", "watch-every"} {
		if f.Changed(name) {
			return true
		}
	}
	return false
}

// parsePercent reads "20%" or "20".
func parsePercent(text string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil || n < 1 || n > 100 {
		return 0, fmt.Errorf("%q is not 1%% to 100%%", text)
	}
	return n, nil
}

func (w *watchFlags) options(repair string) (snapshot.WatchOptions, error) {
	o := snapshot.WatchOptions{WhenFull: w.whenFull, Interval: w.every, Repair: repair}
	var err error
	if o.ExtendAt = 100; w.extendAt != "never" {
		if o.ExtendAt, err = parsePercent(w.extendAt); err != nil {
			return o, usagef("--extend-at %w, or never", err)
		}
	}
	if strings.HasSuffix(w.extendBy, "%") {
		if o.ExtendBy, err = parsePercent(w.extendBy); err != nil {
			return o, usagef("--extend-by %w", err)
		}
	} else if o.ExtendBytes, err = size.Parse(w.extendBy); err != nil {
		return o, usagef("--extend-by: %w", err)
	}
	if w.extendTo != "" {
		if o.MaxData, err = size.Parse(w.extendTo); err != nil {
			return o, usagef("--extend-to: %w", err)
		}
	}
	switch {
	case w.whenFull != snapshot.WhenFullGrow && w.whenFull != snapshot.WhenFullQueue && w.whenFull != snapshot.WhenFullFail:
		return o, usagef("--when-full %q: it must be grow, queue or fail", w.whenFull)
	case w.every <= 0:
		return o, usagef("--watch-every %v: it must be more than nothing", w.every)
	}
	return o, nil
}

// backingEvents hands what is told of the backing store to everybody who listens.
type backingEvents struct {
	mu        sync.Mutex
	kept      []snapshot.BackingEvent
	listeners map[chan snapshot.BackingEvent]bool
	ended     bool
}

func newBackingEvents() *backingEvents {
	return &backingEvents{listeners: map[chan snapshot.BackingEvent]bool{}}
}

// tell never waits: who does not read misses events.
func (b *backingEvents) tell(e snapshot.BackingEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, e)
	if len(b.kept) > keptEvents {
		b.kept = b.kept[1:]
	}
	for l := range b.listeners {
		select {
		case l <- e:
		default:
		}
	}
}

// listen gives the events from those that are kept on, until stop is called or the watching has ended.
func (b *backingEvents) listen() (events <-chan snapshot.BackingEvent, stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := make(chan snapshot.BackingEvent, keptEvents+pendingEvents)
	for _, e := range b.kept {
		l <- e
	}
	if b.ended {
		close(l)
		return l, func() {}
	}
	b.listeners[l] = true
	return l, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners, l)
	}
}

func (b *backingEvents) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	for l := range b.listeners {
		close(l)
	}
	clear(b.listeners)
}

// watch watches the backing store until ctx is done. Drivers that cannot are left in peace.
func (b *backingEvents) watch(ctx context.Context, s *snapshot.Store, o snapshot.WatchOptions, log *slog.Logger) {
	defer b.end()
	d, ok := s.Driver().(snapshot.Watcher)
	if !ok {
		return
	}
	o.Tell = b.tell
	if err := d.Watch(ctx, o); err != nil {
		log.Error("the backing store is not watched any more", "error", err)
	}
}

// logEvents writes events to a log.
func logEvents(events <-chan snapshot.BackingEvent, log *slog.Logger) {
	levels := map[string]slog.Level{"warning": slog.LevelWarn, "error": slog.LevelError}
	for e := range events {
		args := []any{"event", e.Kind}
		if e.Space != "" {
			args = append(args, "space", e.Space, "used", e.Used, "total", e.Total)
		}
		if e.Mend != "" {
			args = append(args, "mend", e.Mend)
		}
		log.Log(context.Background(), levels[e.Level], e.Text, args...)
	}
}

// printEvents writes events for a person or, with --json, one document to a line for a program.
func (a *app) printEvents(ctx context.Context, events <-chan snapshot.BackingEvent) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, more := <-events:
			if !more {
				return nil
			}
			if err := a.printEvent(a.stdout, e); err != nil {
				return err
			}
		}
	}
}

func (a *app) printEvent(w io.Writer, e snapshot.BackingEvent) error {
	if a.json {
		line, err := json.Marshal(e)
		if err == nil {
			_, err = w.Write(append(line, '\n'))
		}
		return err
	}
	mend := ""
	if e.Mend != "" {
		mend = " (to mend it: " + e.Mend + ")"
	}
	_, err := fmt.Fprintf(w, "%s %-7s %s%s\n", e.Time.Format(time.DateTime), e.Level, e.Text, mend)
	return err
}

// repairCommand is what a person types to repair the store at a root.
func repairCommand(root string) string {
	flag := ""
	if root != defaultRoot {
		flag = " --root " + root
	}
	return fmt.Sprintf("unmount the containers and stop the server; then: blockstore%s pool repair", flag)
}

// watched refuses drivers that cannot be watched.
func watched(s *snapshot.Store) error {
	if _, ok := s.Driver().(snapshot.Watcher); !ok {
		return fmt.Errorf("the %s driver has no pool to watch: %w", s.Driver().Name(), snapshot.ErrNotSupported)
	}
	return nil
}
