// Readme writes README.md's block of figures anew, in place: `go generate` runs it.
// It leaves everything outside of the block alone, and a document without one is an
// error.
package main
