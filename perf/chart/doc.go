// Package chart draws what a run measured: a bar for each of the compared with the
// spread of its samples, and cost against scale, a line for each. A drawing is an
// SVG that an HTML page holds as it is, or a PNG; neither refers to anything outside
// of it.
//
// Words: ours are the columns that the reader is to find first. The spread of a bar
// is its quartiles, thick, and its least and greatest sample, thin.
//
// Invariants: an axis says what is on it and its marks carry their unit; a
// logarithmic axis says that it is one. No two things differ in colour alone: bars
// have names beside them, lines have markers and a legend in the order in which they
// end. The same samples give the same bytes.
package chart
