// Package faults is the fault programme: tests that cut the power, kill the process, break the disks, fill them and wear
// the pool out, under load, and then ask the store for everything that it had acknowledged.
//
// They need device-mapper, so that `make test` runs them in User Mode Linux, small; `make soak` runs the same tests
// with larger numbers, which the environment names (BLOCKSTORE_SOAK_...). docs/reliability.md says what is promised,
// which test here holds it, and what the last soak gave.
//
// Words: an operation is begun, then acknowledged. A crash point is an entry of a dm-log-writes log: the disk as it was
// when the power went there. What an operation had acknowledged before a crash point must be there after it; what was
// begun and not acknowledged may have happened or not, but wholly; what was not begun must not be there.
//
// The package exports nothing and nothing imports it.
package faults
