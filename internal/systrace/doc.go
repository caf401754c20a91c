// Package systrace counts the system calls of parts of a process, as strace(1)
// sees them: the process marks where a part begins and ends, and who traces it
// reads the trace.
//
// Words: a mark is the look-up of a path that does not exist, which changes nothing
// and shows in a trace; a tally is what was called between a mark and the next.
//
// The package starts no process. strace is started by the tests and benchmarks
// that use it, with Arguments.
package systrace
