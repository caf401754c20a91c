package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
)

// A Pool is what is watched: [Own] makes one of a thinpool.Pool.
type Pool interface {
	// Status is cheap and flushes nothing.
	Status(ctx context.Context) (thinpool.Status, error)
	// Config, Tuning and Tune as in thinpool.Pool; Tune is thinpool.ErrForeign where the table is somebody else's.
	Config() thinpool.Config
	Tuning() thinpool.Tuning
	Tune(ctx context.Context, t thinpool.Tuning) error
	// Limit is how large a space can become, in bytes, by what lies beneath; what it has where it cannot grow.
	Limit(ctx context.Context, s Space) (uint64, error)
	// Extend makes a space so many bytes large, or larger.
	Extend(ctx context.Context, s Space, to uint64) error
	// Beneath is an error where what lies beneath cannot hold what the pool has promised.
	Beneath(ctx context.Context) error
}

// Waker waits for the kernel, as thinpool.Events do.
type Waker interface {
	Next(ctx context.Context) error
}

// Options of a monitor.
type Options struct {
	Policy Policy
	// Waker may be nil: then there is only the interval.
	Waker Waker
	// Tell is called with each event, one after the other, and must return soon.
	Tell func(Event)
	// Repair says how a pool that needs a check is repaired.
	Repair string
}

// monitor is one run.
type monitor struct {
	Options
	pool Pool
	// open are the events that have begun and are not over, by kind and space, with the step of those that have steps.
	open map[string]int
	// retry is when a space that could not be extended is tried again, and pause how long it was waited last.
	retry  map[Space]time.Time
	pause  map[Space]time.Duration
	before map[Space]level
	looked time.Time
	// held counts the looks that found a metadata snapshot held.
	held int
	// foreign is the table of the pool.
	foreign bool
}

// Run watches a pool until the context ends; that is no error.
func Run(ctx context.Context, pool Pool, o Options) error {
	var err error
	if o.Policy, err = o.Policy.complete(); err != nil {
		return err
	}
	m := &monitor{Options: o, pool: pool, open: map[string]int{}, retry: map[Space]time.Time{}, pause: map[Space]time.Duration{}}
	m.tell(Event{Kind: Watching, Level: Info, Text: "watching the pool: " + o.Policy.String()})
	if o.Waker == nil {
		m.tell(Event{Kind: Blind, Level: Warning, Text: fmt.Sprintf("the kernel tells of no events here: the pool is looked at every %v", o.Policy.Interval)})
	}
	for ctx.Err() == nil {
		m.wait(ctx, m.look(ctx))
	}
	return m.leave(context.WithoutCancel(ctx))
}

// String is the policy in a line for people.
func (p Policy) String() string {
	text := "extending nothing"
	if p.extends() {
		by := fmt.Sprintf("%d%%", p.ExtendBy)
		if p.ExtendBytes > 0 {
			by = humanize.IBytes(p.ExtendBytes)
		}
		text = fmt.Sprintf("extending at %d%% by %s", p.ExtendAt, by)
		if p.MaxData > 0 {
			text += " up to " + humanize.IBytes(p.MaxData)
		}
	}
	return text + map[WhenFull]string{
		Grow:  "; writers wait for space while it can grow, else they fail",
		Queue: "; writers wait for space",
		Fail:  "; writers without space fail",
	}[p.WhenFull]
}

// leave has writers meet what the pool was configured for: nobody extends it now for those who wait.
func (m *monitor) leave(ctx context.Context) error {
	t := m.pool.Tuning()
	if t.QueueIfFull == m.pool.Config().QueueIfFull {
		return nil
	}
	t.QueueIfFull = !t.QueueIfFull
	err := m.pool.Tune(ctx, t)
	if errors.Is(err, thinpool.ErrForeign) || errors.Is(err, thinpool.ErrReadOnly) || errors.Is(err, thinpool.ErrNeedsCheck) || errors.Is(err, thinpool.ErrFailed) {
		return nil // it cannot be changed, and was said to be so
	}
	return err
}

// wait ends at an event of the kernel's, after the time, or with ctx.
func (m *monitor) wait(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if m.Waker == nil {
		<-ctx.Done()
		return
	}
	if err := m.Waker.Next(ctx); err != nil && ctx.Err() == nil {
		m.Waker = nil
		m.tell(Event{Kind: Blind, Level: Warning, Text: fmt.Sprintf("the kernel's events cannot be waited for any more; the pool is looked at every %v: %v", m.Policy.Interval, err)})
		<-ctx.Done()
	}
}

// look is one look at the pool and what follows of it; it returns how soon to look again.
func (m *monitor) look(ctx context.Context) time.Duration {
	st, err := m.pool.Status(ctx)
	if ctx.Err() != nil {
		return 0
	}
	if err != nil {
		m.begin(Event{Kind: Unseen, Level: Error, Text: err.Error()}, 1)
		return m.Policy.Interval
	}
	m.end(Unseen, "", nil)
	if !m.health(st) {
		return m.Policy.Interval
	}
	st = m.extend(ctx, st)
	now := levels(st)
	for _, s := range []Space{Data, Metadata} {
		m.space(s, now[s], st)
	}
	m.policy(ctx, st, now[Data])
	m.odometer(st)
	m.holder(st)
	m.beneath(ctx)
	return m.pace(now)
}

func (m *monitor) pace(now map[Space]level) time.Duration {
	before, looked := m.before, m.looked
	m.before, m.looked = now, time.Now()
	if before == nil {
		return min(leastInterval, m.Policy.Interval) // two looks make a rate
	}
	return m.Policy.until(now, before, m.looked.Sub(looked))
}

// health tells of pools that take no changes, and says whether it does.
func (m *monitor) health(st thinpool.Status) bool {
	kind, err := "", st.Err()
	switch {
	case errors.Is(err, thinpool.ErrFailed):
		kind = Failed
	case errors.Is(err, thinpool.ErrNeedsCheck):
		kind = NeedsCheck
	case errors.Is(err, thinpool.ErrReadOnly) && !levels(st)[Metadata].atLeast(fullMetadata):
		kind = ReadOnly
	}
	for _, other := range []string{Failed, NeedsCheck, ReadOnly} {
		if _, was := m.open[other]; was && other != kind {
			delete(m.open, other)
			if kind == "" {
				m.tell(Event{Kind: Healthy, Level: Info, Text: "the pool takes changes again"})
			}
		}
	}
	if kind != "" {
		e := Event{Kind: kind, Level: Error, Text: err.Error()}
		if kind != ReadOnly {
			e.Mend = m.Repair
		}
		m.begin(e, 1)
	}
	return kind == ""
}

// extend extends the spaces that are at their threshold, and returns the state after it.
func (m *monitor) extend(ctx context.Context, st thinpool.Status) thinpool.Status {
	if !m.Policy.extends() {
		return st
	}
	for _, s := range []Space{Metadata, Data} { // without metadata, data are of no use
		l := levels(st)[s]
		if !l.atLeast(m.Policy.ExtendAt) {
			delete(m.retry, s)
			delete(m.pause, s)
			m.end(ExtendFailed, s, nil)
			continue
		}
		if time.Now().Before(m.retry[s]) {
			continue
		}
		if err := m.grow(ctx, s, l); err != nil && ctx.Err() == nil {
			m.pause[s] = min(max(2*m.pause[s], m.Policy.Interval), longestBackoff)
			m.retry[s] = time.Now().Add(m.pause[s])
			m.begin(Event{Kind: ExtendFailed, Level: Error, Space: s, Used: l.used, Total: l.total, Text: fmt.Sprintf("the pool's %s cannot be extended: %v", s, err)}, 1)
			continue
		}
		if after, err := m.pool.Status(ctx); err == nil {
			st = after
		}
	}
	return st
}

func (m *monitor) grow(ctx context.Context, s Space, l level) error {
	limit, err := m.pool.Limit(ctx, s)
	if err != nil {
		return err
	}
	to := m.Policy.target(s, l, limit)
	if to == 0 {
		return fmt.Errorf("%w: it has %s, and there is room for no more", thinpool.ErrNoSpace, humanize.IBytes(l.total))
	}
	start := time.Now()
	if err := m.pool.Extend(ctx, s, to); err != nil {
		return err
	}
	took := time.Since(start)
	delete(m.retry, s)
	delete(m.pause, s)
	m.end(ExtendFailed, s, nil)
	m.tell(Event{
		Kind: Extended, Level: Info, Space: s, Used: l.used, Total: to, From: l.total, To: to, Took: took,
		Text: fmt.Sprintf("extended the pool's %s from %s to %s in %v", s, humanize.IBytes(l.total), humanize.IBytes(to), took.Round(time.Millisecond)),
	})
	return nil
}

// space tells how full a space is that could not be extended.
func (m *monitor) space(s Space, l level, st thinpool.Status) {
	at := m.Policy.ExtendAt
	if !m.Policy.extends() {
		at = DefaultExtendAt
	}
	step := 0
	for i, percent := range []int{at, 90, 95, 99} {
		if percent >= at && l.atLeast(percent) {
			step = i + 1
		}
	}
	e := Event{Space: s, Used: l.used, Total: l.total, Mend: "delete something, or extend the pool"}
	full := s == Data && st.Mode == dm.PoolOutOfDataSpace || s == Metadata && st.Mode == dm.PoolReadOnly || l.total > 0 && l.free() == 0
	switch {
	case full:
		e.Kind, e.Level, e.Text = Full, Error, fmt.Sprintf("the pool's %s are full: %s of %s (%s)", s, humanize.IBytes(l.used), humanize.IBytes(l.total), st.Full)
		m.begin(e, 1)
	case step > 0:
		m.end(Full, s, nil)
		e.Kind, e.Level = Low, Warning
		e.Text = fmt.Sprintf("%d%% of the pool's %s are used: %s of %s", l.used*parts/l.total, s, humanize.IBytes(l.used), humanize.IBytes(l.total))
		m.begin(e, step)
	default:
		enough := &Event{Kind: Enough, Level: Info, Space: s, Used: l.used, Total: l.total, Text: fmt.Sprintf("the pool's %s have space again: %s of %s are used", s, humanize.IBytes(l.used), humanize.IBytes(l.total))}
		if m.end(Full, s, enough) {
			enough = nil
		}
		m.end(Low, s, enough)
	}
	if s == Data && st.QueueTimedOut {
		m.begin(Event{Kind: QueueTimeout, Level: Error, Space: s, Used: l.used, Total: l.total, Text: "writers have waited for space as long as the kernel lets them (no_space_timeout), and fail now", Mend: e.Mend}, 1)
	} else if s == Data {
		m.end(QueueTimeout, s, nil)
	}
}

// policy has writers to a full pool wait or fail, and the kernel tell when the threshold is met.
func (m *monitor) policy(ctx context.Context, st thinpool.Status, data level) {
	if m.foreign {
		return
	}
	now := m.pool.Tuning()
	want := now
	switch m.Policy.WhenFull {
	case Queue:
		want.QueueIfFull = true
	case Fail:
		want.QueueIfFull = false
	case Grow:
		if m.before == nil || data.atLeast(m.Policy.ExtendAt) || !now.QueueIfFull {
			want.QueueIfFull = m.growable(ctx, data)
		}
	}
	if m.Policy.extends() {
		want.LowWaterPercent = parts - m.Policy.ExtendAt
	}
	if want == now {
		return
	}
	err := m.pool.Tune(ctx, want)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, thinpool.ErrForeign):
		m.foreign = true
		m.tell(Event{Kind: TuneFailed, Level: Info, Text: "what writers meet in a full pool is for its owner to say (LVM: lvchange --errorwhenfull y|n VG/LV): it is " + st.Full.String()})
	case err != nil:
		m.begin(Event{Kind: TuneFailed, Level: Error, Text: fmt.Sprintf("changing what the pool does when it is full: %v", err)}, 1)
		return
	case want.QueueIfFull != now.QueueIfFull && want.QueueIfFull:
		m.tell(Event{Kind: Queueing, Level: Info, Text: "writers to a full pool wait for space from now on"})
	case want.QueueIfFull != now.QueueIfFull:
		m.tell(Event{Kind: Failing, Level: Info, Text: "writers to a full pool fail from now on"})
	}
	m.end(TuneFailed, "", nil)
}

// growable says whether the data can still be extended.
func (m *monitor) growable(ctx context.Context, data level) bool {
	if !m.Policy.extends() {
		return false
	}
	limit, err := m.pool.Limit(ctx, Data)
	return err == nil && m.Policy.target(Data, data, limit) > 0
}

// odometer tells how many of the snapshots of its life a pool has taken.
func (m *monitor) odometer(st thinpool.Status) {
	step, level := 0, Warning
	for i, n := range []uint32{thinpool.SnapshotWarning, thinpool.SnapshotLimit / 10 * 9, thinpool.SnapshotLimit} {
		if st.Snapshots >= n {
			step = i + 1
		}
	}
	text := fmt.Sprintf("the pool has taken %d of the %d snapshots of its life", st.Snapshots, thinpool.SnapshotLimit)
	if step == 3 {
		level = Error
		text += ", and takes no more: the kernel would mix blocks up"
	}
	if step > 0 {
		m.begin(Event{Kind: Snapshots, Level: level, Used: uint64(st.Snapshots), Total: thinpool.SnapshotLimit, Text: text, Mend: "move what is in it to a new pool (for a store: save the images, and load them into a new one)"}, step)
	}
}

// holder tells of a metadata snapshot that is held while space is short.
func (m *monitor) holder(st thinpool.Status) {
	const long = 3
	_, low := m.open[Low+Data]
	_, full := m.open[Full+Data]
	if st.HeldRoot == 0 || !low && !full {
		m.held = 0
		m.end(Held, "", nil)
		return
	}
	if m.held++; m.held >= long {
		m.begin(Event{Kind: Held, Level: Warning, Text: "somebody holds a metadata snapshot of the pool: while it is held, what is deleted frees nothing", Mend: "end the program that holds it (release_metadata_snap)"}, 1)
	}
}

func (m *monitor) beneath(ctx context.Context) {
	if err := m.pool.Beneath(ctx); err != nil && ctx.Err() == nil {
		m.begin(Event{Kind: Beneath, Level: Error, Text: err.Error()}, 1)
		return
	}
	m.end(Beneath, "", nil)
}

// begin tells an event that has begun, or has got worse.
func (m *monitor) begin(e Event, step int) {
	if m.open[e.Kind+e.Space] < step {
		m.tell(e)
	}
	m.open[e.Kind+e.Space] = step
}

// end says whether there was such an event, and tells over, if it is not nil.
func (m *monitor) end(kind, space string, over *Event) bool {
	_, was := m.open[kind+space]
	delete(m.open, kind+space)
	if was && over != nil {
		m.tell(*over)
	}
	return was
}

func (m *monitor) tell(e Event) {
	e.Time = time.Now()
	if m.Tell != nil {
		m.Tell(e)
	}
}
