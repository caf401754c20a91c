// Package metrics tells Prometheus about one open store: its space and health, the operations that its doors do, the
// ioctls that they come down to, and the catalog. docs/metrics.md lists them.
//
// # Words
//
// An operation is one call of a door or one verb of the command line, known by the door and the method. Its outcome is
// "ok" or the kind of its error. The state is what is read from the store and its backing store; the rest are counts
// that the process keeps.
//
// # Invariants
//
//   - The state is read at most once in ten seconds, however often and by however many it is asked for, and by one
//     goroutine at a time. A scrape does not wait long for it: a backing store that does not answer leaves the counts and
//     the last state, with its age.
//   - Labels come from fixed sets: no caller can add a series.
//   - Names and units follow Prometheus's rules (bytes, seconds, _total); a test runs promlint on them.
//   - It only reads, and knows no driver: what one of them cannot tell is left out, not shown as 0.
package metrics
