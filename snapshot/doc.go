// Package snapshot is the layer store: it keeps immutable layers and writable
// containers as thin snapshots on one driver, and the catalog of what ought to
// exist.
//
// Words: a layer is a sealed volume with a name (an OCI ChainID, or whatever a
// door calls it) and the digest of its tar; a container is a writable snapshot
// of a layer; a view shows a layer read-only and owns no volume. A driver keeps
// volumes, which have numbers; only the catalog knows names.
//
// Invariants: the catalog is one bbolt file, and no transaction on it is open
// over a system call of a driver. Volume ids are reserved in blocks before they
// are used; a volume whose id lies in a reserved block and that the catalog does
// not know is ours and unfinished, and is removed when the store opens. A layer
// is durable before the catalog names it. A removal is committed first and done
// afterwards. Locks are per name; none is held for the whole store over a system
// call.
//
// The package never decides between catalog and kernel by destroying what it
// cannot explain: that is reported by Check, with the way to mend it.
package snapshot
