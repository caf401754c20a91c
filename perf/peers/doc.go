// Package peers has the ways to keep layers and containers that are compared, each
// behind one interface: blockstore's own store, overlay on several file systems,
// copies, the command lines of btrfs, device-mapper and LVM, and below them the
// kernel's calls alone.
//
// Words: a peer is a way; a store is what it keeps in one place; a site is that
// place, on loop devices of its own that are all on one disk; a layer is what
// nobody changes any more; a container is a writable child of a layer. A floor is
// a peer that does what the kernel needs and nothing else: it keeps no account, and
// nothing of it comes back after a crash.
//
// Invariants: a layer is on disk when Layer returns, with every peer. What a peer
// makes outside its site's directory (devices, mounts) is taken back by the site's
// undo, or goes with the directory's mounts. A store of a peer does not survive its
// process.
//
// What is equal and what is not stands in docs/performance.md.
package peers
