package monitor

import "time"

// Space is what of a pool can fill up.
type Space = string

// The spaces.
const (
	Data     Space = "data"
	Metadata Space = "metadata"
)

// Levels of events.
const (
	Info    = "info"
	Warning = "warning"
	Error   = "error"
)

// Kinds of events. They are an interface, for people, programs and counters: none changes its meaning.
const (
	// Watching: it has begun; the policy is in Text.
	Watching = "watching"
	// Blind: the kernel tells of no events; the pool is looked at, at the interval.
	Blind = "blind"
	// Low: a space is at its threshold, or further, and stays there.
	Low = "low"
	// Extended: a space has grown, From and To bytes; Took is how long devices may have waited.
	Extended = "extended"
	// ExtendFailed: it could not be extended; it will be tried again.
	ExtendFailed = "extend-failed"
	// Full: no block of a space is free; of the metadata it makes the pool read-only.
	Full = "full"
	// QueueTimeout: writers waited for space, and fail now.
	QueueTimeout = "queue-timeout"
	// Enough: a space that was low or full is not any more.
	Enough = "enough"
	// Queueing and Failing: what writers meet in a full pool from now on.
	Queueing = "queueing"
	Failing  = "failing"
	// TuneFailed: that could not be changed.
	TuneFailed = "tune-failed"
	// ReadOnly, NeedsCheck, Failed: what the pool has become.
	ReadOnly   = "read-only"
	NeedsCheck = "needs-check"
	Failed     = "failed"
	// Healthy: it is none of these any more.
	Healthy = "healthy"
	// Snapshots: half or nine tenths of the snapshots of the pool's life are used up, or all.
	Snapshots = "snapshots"
	// Beneath: what lies beneath the pool has no room for what the pool has promised.
	Beneath = "beneath"
	// Held: the space is low, and a metadata snapshot is held for long, so that deletions free nothing.
	Held = "held"
	// Unseen: the pool's state could not be read.
	Unseen = "unseen"
)

// An Event is one thing that somebody ought to know.
type Event struct {
	Time  time.Time `json:"time"`
	Kind  string    `json:"kind"`
	Level string    `json:"level"`
	// Space is what it concerns, "" for the pool as a whole.
	Space string `json:"space,omitempty"`
	// Used and Total are the space's in bytes, or snapshots and their limit.
	Used  uint64 `json:"used,omitempty"`
	Total uint64 `json:"total,omitempty"`
	// From, To and Took are for Extended.
	From uint64        `json:"from,omitempty"`
	To   uint64        `json:"to,omitempty"`
	Took time.Duration `json:"took_ns,omitempty"`
	// Text is for people, and Mend says what they can do.
	Text string `json:"text"`
	Mend string `json:"mend,omitempty"`
}
