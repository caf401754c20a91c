// Package gate holds a run's counts against a baseline that is committed: programs
// started, ioctls, waits for the disk, and the disk's bytes where they are stable.
// Unlike times they are the same on every machine, so that a regression in them is
// one.
//
// Words: a limit is the most that a row may be in a column. A baseline is the limits
// of the subject's columns, and its rivals' are nobody's concern.
//
// Invariants: what the baseline has and the run has not is a failure, since a count
// that nobody takes any more hides what it counted; so is a count that the baseline
// does not have. What became less passes and is said, so that the baseline can be
// renewed. Of several runs the least count is looked at: what goes on in the
// background only adds.
package gate
