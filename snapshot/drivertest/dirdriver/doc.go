// Package dirdriver is a snapshot driver for tests: its volumes are directories
// and its snapshots are copies.
//
// It is as slow as it is simple, and it needs nothing from the kernel but bind
// mounts. What it adds for tests: it counts and records the calls of a store
// (Faults.Calls), it fails at the step it is told to (Faults.FailAt), and it
// watches that the store keeps its side of the driver contract
// (Faults.Violations): no two operations at once that write to, remove, seal or
// activate one volume, and no work on volumes that do not exist.
//
// It enforces no size limits, and a snapshot of a volume that is being written
// to is not a point in time.
package dirdriver
