// Package image reads and writes images as other tools keep them: Docker's
// archives in each of their forms, and OCI image layouts. It fills a layer
// store from them, and writes them from a layer store.
//
// Words: an archive holds images; an image is a config, the layers that it
// names, and the names that people gave it. A blob is a file of an OCI layout
// that is called by its digest. A DiffID is the digest of a layer's uncompressed
// tar, and so never the digest of a compressed blob. The outer tar is the
// archive itself, as opposed to the tars of its layers. Spooling is copying a
// stream into an unnamed temporary file, so that it can be read by offset.
//
// Invariants: what an archive says is never believed. Its documents are bounded
// in size and count, its paths cannot name anything outside of it, every blob is
// compared with the size and digest of its descriptor, and every layer with its
// DiffID (the store does that while it unpacks). Memory does not grow with the
// size of an image. Whatever is wrong with an archive is an error that is
// ErrArchive, and the store holds afterwards what it held before.
//
// What is written is a function of the image alone: the same image saved twice
// gives the same bytes.
//
// The package never unpacks a layer and knows no driver: that is the store's.
// It never fetches anything over a network.
//
// Formats: the OCI image format specification 1.1
// (https://github.com/opencontainers/image-spec), and Docker's image
// specification 1.0 to 1.2 (https://github.com/moby/docker-image-spec).
package image
