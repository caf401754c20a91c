// Package page makes one HTML page of one or more reports, to be read in a browser
// that is offline: charts are drawn into it, and it refers to nothing outside of it
// and runs no script.
//
// Words: a part of the page is one report. Within it a group is a workload, or in
// reports without workloads a row with its parts.
//
// Invariants: where the subject loses stands as large and in the same words as where
// it wins, and what the interval leaves open is said to be no difference. Reports are
// never compared with each other. Names and notes from files are text, never markup.
package page
