// Package graphdriver is the Docker door: it serves a layer store to dockerd as a
// graphdriver plugin, so that `dockerd --storage-driver blockstore` keeps images and
// containers in it. It speaks the legacy ("v1") plugin protocol over a unix socket
// (Docker Engine 1.9 to 27; docs.docker.com/engine/extend/plugins_graphdriver).
//
// # Words
//
// Docker calls a layer, a container's init layer and a container all a layer, with
// an id that it makes up; the store keeps id X under the name "docker/X". A layer
// that Docker creates is a container of the store's at first, since Docker writes
// into it: by unpacking a tar (ApplyDiff), after which it is a sealed layer, or through
// its mount (Get), and then it becomes one with its first child. A container's init
// layer is the exception: the store has one for all containers of an image (ADR 14). The
// home is the directory that dockerd names in Init; data root and driver name follow from it.
//
// # Invariants
//
//   - An answer is given when what it says is durable.
//   - Methods can be repeated where Docker repeats them: creating what was just
//     created, removing and putting what is gone. A tar that broke off is not gone on
//     with: the protocol's client repeats a broken call with what is left of its body.
//   - References are counted per layer, and what the count begins with is whether the
//     layer is mounted: so it is right again after a restart of either side.
//   - One dockerd at a time is served.
//   - Only snapshots whose names begin with "docker/" are seen or touched.
//   - Every call ends in bounded time or says that it goes on; none takes the
//     process down.
//
// # What it never does
//
// It removes nothing that Docker has not asked to be removed: layers that Docker has
// forgotten are reported (Orphans). It knows no driver: all goes through the store.
package graphdriver
