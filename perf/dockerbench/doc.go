// Command dockerbench runs the same Docker commands on Docker's real daemon with
// one storage driver after the other, on the same disk in one run, and prints the
// times side by side.
//
//	dockerbench --image ARCHIVE [--drivers overlay2,btrfs,vfs,blockstore/btrfs] [--rounds 3] [--json] [--out FILE]
//
// # Words
//
// A peer is a storage driver with a daemon of its own on storage of its own. In a
// round every peer does everything once, one peer at a time; the order turns
// round from round to round. Containers are created in turns of some each, since
// what that takes differs less than the machine from minute to minute. A measure is one command, or what a command reports.
//
// # What is equal
//
// Each peer's storage is a new file on the same file system of the machine, on a
// loop device with direct I/O, which is what blockstore makes by default. File
// systems are mounted without access times, those of btrfs with asynchronous
// discards. The archives come from the page cache.
//
// # Inside a container
//
// The first write is measured by this program itself: the test image holds it, and
// a container runs it as "dockerbench write", so that neither the client nor the
// start of the container is in the figure.
//
// # Invariants
//
// Nothing that it made outlives it, after an error and after an interruption too:
// daemons, mounts, loop devices, device-mapper devices, files. Names begin with
// bstest. The exit status says whether everything ran, never how fast.
package main
