// Package snapshotter is the containerd door: it serves a store to containerd as a
// proxy plugin, over gRPC on a unix socket (service
// containerd.services.snapshots.v1; package differ has the diff service on the same
// socket).
//
// Words, as containerd has them: a snapshot is active (a container of the store's),
// a view, or committed (a layer). Keys of active snapshots and views, and names of
// committed ones, share one name space. One plugin of a containerd is a scope: its
// snapshots lie in the store below "containerd/PLUGIN/", where PLUGIN is the name
// that the plugin has in containerd's configuration. containerd's own namespaces
// are part of the keys that it sends.
//
// Invariants: only what came through this door under the same scope is listed or
// found, since containerd removes what it does not know. A removal is one durable
// write, and Cleanup does the work; whatever stands in a removal's way is answered
// with FailedPrecondition, as every other error would end containerd's collection.
// A commit is durable, the files in it too, when it is answered.
//
// The package never mounts anything: mounts are handed out, and performed by
// containerd or a runtime in the mount namespace of the host.
package snapshotter
