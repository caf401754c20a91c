// Package monitor keeps a thin pool from filling up: it waits for the kernel's events, looks at the pool at intervals for
// what sends none, tells what it sees, extends data and metadata before they are full, and has writers wait or fail.
//
// Words: a space is the pool's data or its metadata. The threshold is the part of a space that is used when it is
// extended; the limit, how large what lies beneath lets it become. An event is what somebody ought to know: told once when
// it begins, and once when it is over.
//
// Invariants:
//
//   - A pool is looked at after each event of the kernel's and at least at the interval, more often when it fills so
//     fast that it would be full before. A look costs no flush.
//   - A space is extended in few large steps, as each stalls the active devices of the pool, and never beyond its limit.
//   - A space that cannot be extended is tried again, less and less often.
//   - Where writers wait when the pool is full only if it can grow, that is decided anew at each look that matters.
//   - It ends with its context, and leaves the pool as the pool's configuration says.
//
// What the kernel tells nothing of is found at the interval only: that space has become free, that the file system below
// a loopback file is nearly full, how many snapshots were taken, and the threshold, in a pool whose table belongs to
// somebody else. It keeps no history, and repairs nothing.
package monitor
