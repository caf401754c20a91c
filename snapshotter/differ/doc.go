// Package differ is containerd's diff service for snapshots of a store: it unpacks
// layer blobs into them and makes layer blobs of what they changed.
//
// containerd asks for both with mounts and descriptors only (service
// containerd.services.diff.v1.Diff, listed by containerd as a proxy plugin of type
// "diff"). The differ knows the store's mounts again, works on the snapshots that they
// show rather than mount them, and reads and writes blobs in containerd's own content
// store, through containerd's socket.
//
// # Words
//
//   - blob: content in containerd's content store, known by its digest.
//   - ref: the name of a blob that is being written.
//   - lease: what keeps a blob from containerd's garbage collection until something
//     refers to it.
//   - foreign: mounts that show no snapshot of the store.
//
// # Invariants
//
//   - Foreign mounts and media types that are no layers' are Unimplemented before
//     anything was read or written: containerd goes on to its next differ then, as a
//     rule "walking". Nothing else is Unimplemented.
//   - A container that is compared is compared as it is at one instant, in use or not.
//   - A blob that is applied was seen whole: its digest and size are those of its
//     descriptor, or the answer is an error.
//   - A diff that fails or whose client goes away leaves no blob, no half blob and no
//     lease. An apply that fails leaves a snapshot that its client has to remove, as
//     containerd does.
//   - A blob that was written stays for as long as the caller's lease says, if the
//     caller sent one, and an hour if not.
//
// # What it never does
//
// It does not mount what it is handed, does not start processes, and does not look at
// a snapshot's name: whoever may talk to containerd may change all that is in it.
package differ
