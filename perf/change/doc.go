// Package change says what differs between two runs of a benchmark on one machine,
// beyond noise: benchstat's test (Mann-Whitney's U, at 5 %) for what has a spread, and
// equality for counts that are the same in every sample.
//
// Invariants: a row is compared with the row of its name, in the column of its name,
// and in no other way. Reports of different machines are not compared unless that is
// asked for: what would differ is the machines. No difference found is not the same
// as no difference: too few samples can show none, and that is said.
package change
