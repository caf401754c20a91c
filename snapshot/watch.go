package snapshot

import (
	"context"
	"time"
)

// Watcher is a Driver whose backing store can be kept from filling up while somebody watches it.
type Watcher interface {
	// Watch tells what becomes of the backing store, and extends it, until the context ends; that is no error. Nothing
	// else waits for it, and at most one runs at a time.
	Watch(ctx context.Context, o WatchOptions) error
}

// What writers meet in a full backing store.
const (
	// WhenFullGrow has them wait while it can be extended, and fail as soon as it cannot.
	WhenFullGrow = "grow"
	// WhenFullQueue has them wait, for as long as the kernel lets them.
	WhenFullQueue = "queue"
	// WhenFullFail has them fail at once, with ENOSPC.
	WhenFullFail = "fail"
)

// WatchOptions say how a backing store is kept from filling up. Zero values are the driver's defaults.
type WatchOptions struct {
	// ExtendAt is how many percent are used when it is extended; 100 is never.
	ExtendAt int
	// ExtendBy is by how much, in percent of what there is, or ExtendBytes in bytes.
	ExtendBy    int
	ExtendBytes int64
	// MaxData bounds what it is extended to, in bytes; 0 is no bound.
	MaxData int64
	// WhenFull is one of the constants, or "".
	WhenFull string
	// Interval is the longest time between two looks.
	Interval time.Duration
	// Repair is the command that repairs it.
	Repair string
	// Tell is called with each event, one after the other, and must return soon.
	Tell func(BackingEvent)
}

// BackingEvent is one thing about a backing store that somebody ought to know. It is told when it begins, and when it is
// over.
type BackingEvent struct {
	Time time.Time `json:"time"`
	// Kind is a word that does not change its meaning, for programs and counters: docs/cli.md lists them.
	Kind string `json:"kind"`
	// Level is info, warning or error.
	Level string `json:"level"`
	// Space is data, metadata, or "" for the whole.
	Space string `json:"space,omitempty"`
	// Used and Total are the space's in bytes, or snapshots and their limit.
	Used  uint64 `json:"used,omitempty"`
	Total uint64 `json:"total,omitempty"`
	// From, To and Took say from how many bytes to how many it was extended, and how long that took.
	From uint64        `json:"from,omitempty"`
	To   uint64        `json:"to,omitempty"`
	Took time.Duration `json:"took_ns,omitempty"`
	// Text is for people, and Mend says what they can do.
	Text string `json:"text"`
	Mend string `json:"mend,omitempty"`
}
