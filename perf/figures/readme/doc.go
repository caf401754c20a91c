// Readme writes README.md's block of figures anew, in place, and the charts that it
// refers to: `go generate` runs it. It leaves everything outside of the block alone, and
// a document without one is an error. A chart that shows the same is left alone too, and
// one that no report makes is removed.
package main
