// Package perf holds what a comparison with rivals needs, whatever is compared:
// samples and what may be said of them, the report with its table, and the facts
// about the machine without which a figure means nothing; and the disks of a run,
// with what takes them back.
//
// Words: a column is one of the compared, a row is a measure, a sample is one
// value of a row in a column. One column is the subject; the report shows how it
// stands against others in ratios.
//
// Invariants: all samples of a report come from one run on one machine. A row
// keeps every sample, so that whoever doubts a median can compute another. Times
// are shown and never asserted; a target is shown beside them as met or not.
package perf
