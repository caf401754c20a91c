// Package figures holds the reports that README.md's figures come from, and writes
// those figures.
//
// Words: a report is the JSON of one run of a benchmark, committed here as NAME.json;
// the block is the part of README.md between two marks; a picture is a PNG in charts that
// the block shows.
//
// Invariants: the block is what Block makes of the reports, to the letter, the pictures
// are what Pictures makes of them, to the pixel, and README.md states no other measured
// figure; tests say so. Each report stands with its command and its machine, and reports
// are never compared with each other. Rows and charts that are shown are chosen by name,
// not by who is ahead in them.
//
// docs/performance.md says how the reports are made anew; `make figures` writes the block
// and the pictures.
package figures

//go:generate go run ./readme ../../README.md charts
