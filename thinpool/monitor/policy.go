package monitor

import (
	"fmt"
	"time"

	"blockstore.dev/blockstore/thinpool"
)

// WhenFull is what writers meet in a full pool.
type WhenFull string

const (
	// Grow has them wait while the pool can still be extended, and fail as soon as it cannot.
	Grow WhenFull = "grow"
	// Queue has them wait, for as long as the kernel's no_space_timeout allows.
	Queue WhenFull = "queue"
	// Fail has them fail at once, with ENOSPC.
	Fail WhenFull = "fail"
)

// What a zero Policy means.
const (
	DefaultExtendAt   = 80
	DefaultExtendBy   = 20
	DefaultInterval   = 10 * time.Second
	leastInterval     = time.Second
	never             = 100
	leastDataStep     = 1 << 30
	leastMetadataStep = 16 << 20
	longestBackoff    = 5 * time.Minute
	parts             = 100
	// fullMetadata is where a pool that is read-only is so for want of metadata.
	fullMetadata = 90
)

// Policy is what the user wants.
type Policy struct {
	// ExtendAt is the threshold in percent; 0 is 80, 100 extends never.
	ExtendAt int
	// ExtendBy is a step in percent of what there is, and 0 is 20: at least 1 GiB of data and 16 MiB of metadata.
	// ExtendBytes, if set, is a step of data in bytes instead.
	ExtendBy    int
	ExtendBytes uint64
	// MaxData bounds what the data are extended to, in bytes; 0 is no bound.
	MaxData uint64
	// WhenFull, "" is Grow.
	WhenFull WhenFull
	// Interval is the longest time between two looks; 0 is 10 s.
	Interval time.Duration
}

func (p Policy) complete() (Policy, error) {
	if p.ExtendAt == 0 {
		p.ExtendAt = DefaultExtendAt
	}
	if p.ExtendBy == 0 {
		p.ExtendBy = DefaultExtendBy
	}
	if p.WhenFull == "" {
		p.WhenFull = Grow
	}
	if p.Interval == 0 {
		p.Interval = DefaultInterval
	}
	switch {
	case p.ExtendAt < 0 || p.ExtendAt > never:
		return p, fmt.Errorf("extending at %d percent: %w", p.ExtendAt, thinpool.ErrInvalid)
	case p.ExtendBy < 0:
		return p, fmt.Errorf("extending by %d percent: %w", p.ExtendBy, thinpool.ErrInvalid)
	case p.Interval < 0:
		return p, fmt.Errorf("looking every %v: %w", p.Interval, thinpool.ErrInvalid)
	case p.WhenFull != Grow && p.WhenFull != Queue && p.WhenFull != Fail:
		return p, fmt.Errorf("when the pool is full: %q: %w", p.WhenFull, thinpool.ErrInvalid)
	}
	return p, nil
}

// extends says whether anything is extended at all.
func (p Policy) extends() bool { return p.ExtendAt < never }

// A level is how full a space is.
type level struct{ used, total uint64 }

func levels(st thinpool.Status) map[Space]level {
	var d, m level
	d.used, d.total = st.DataBytes()
	m.used, m.total = st.MetadataBytes()
	return map[Space]level{Data: d, Metadata: m}
}

func (l level) free() uint64 { return l.total - min(l.used, l.total) }

// atLeast says whether so many percent are used.
func (l level) atLeast(percent int) bool {
	return l.total > 0 && l.used >= share(l.total, percent)
}

// share is a part of n in percent, rounded up.
func share(n uint64, percent int) uint64 {
	return n/parts*uint64(percent) + (n%parts*uint64(percent)+parts-1)/parts
}

// target is how large a space that is at its threshold ought to become: a step, and more if it were at the threshold then
// too. Limit is what it may become; 0 means that there is no room for anything.
func (p Policy) target(s Space, l level, limit uint64) uint64 {
	step := max(share(l.total, p.ExtendBy), leastDataStep)
	switch {
	case s == Metadata:
		step = max(share(l.total, p.ExtendBy), leastMetadataStep)
	case p.ExtendBytes > 0:
		step = p.ExtendBytes
	}
	if s == Data && p.MaxData > 0 {
		limit = min(limit, p.MaxData)
	}
	want := l.total + step
	if enough := l.used/uint64(p.ExtendAt)*parts + parts; want < enough {
		want += (enough - want + step - 1) / step * step
	}
	const align = 1 << 20
	want = min((want+align-1)/align*align, limit)
	if want <= l.total {
		return 0
	}
	return want
}

// until is how soon to look again: twice before the space that fills fastest meets its threshold, or is full.
func (p Policy) until(now, before map[Space]level, passed time.Duration) time.Duration {
	wait := p.Interval
	for s, l := range now {
		b := before[s]
		if l.used <= b.used || passed <= 0 {
			continue
		}
		left := l.free()
		if at := share(l.total, p.ExtendAt); l.used < at {
			left = at - l.used
		}
		rate := float64(l.used-b.used) / passed.Seconds()
		wait = min(wait, time.Duration(float64(left)/rate/2*float64(time.Second)))
	}
	return max(wait, min(leastInterval, p.Interval))
}
