// Package lint holds the house's rules as an ordinary test: which package may
// import which, where unsafe and raw system calls live, what starts processes,
// what a test may not do. A finding says where, what, and how to mend it.
//
// The rules read source text only (go/parser), so they hold for files of every
// platform and build tag. Each rule is tried on source that breaks it before
// it is believed about source that does not.
//
// The package exports nothing and nothing imports it.
package lint
