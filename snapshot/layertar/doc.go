// Package layertar applies OCI layer tars to plain directories and writes the
// tar that turns one directory tree into another.
//
// It knows the rules of the OCI image specification's "Image Layer Filesystem
// Changeset" and what Docker's and containerd's archives do beyond them, and
// nothing of volumes, catalogs or images: a tree is a path.
//
// # Words
//
//   - layer tar: the uncompressed tar of one layer; its sha256 is the DiffID.
//   - entry: one header of the tar with its content.
//   - whiteout: an entry ".wh.NAME" that deletes NAME of the layers below.
//   - opaque: a directory with an entry ".wh..wh..opq"; nothing of the layers
//     below shows in it.
//   - lower, upper: the tree before and after the changes.
//   - split data: what, together with the unpacked tree, gives the layer tar
//     back byte for byte (the format of github.com/vbatts/tar-split, compressed
//     with zstd).
//
// # Invariants
//
//   - Nothing outside the root is read or written, whatever the archive says:
//     every component is opened with O_NOFOLLOW relative to its parent's
//     descriptor, symbolic links are read and walked with ".." and absolute targets
//     kept within the root (what openat2(2) does with RESOLVE_IN_ROOT, but each
//     directory keeps one canonical path, by which duplicates are found), the last
//     component is never followed, and existing files are never opened for writing.
//   - Whoever applies the same layers in the same order gets the same tree:
//     times of parents are set back, inherited ACLs and the umask have no say.
//   - Memory does not grow with a layer's size; with its number of entries by a
//     few bytes each.
//   - An archive that breaks a rule ends in one error that matches [ErrArchive]
//     and names the entry. What was unpacked until then stays: the caller
//     throws the volume away.
//   - Trees are hostile too: while comparing, no symbolic link is followed.
//
// # What it never does
//
// It does not flush: whoever owns the volume does that once. It does not
// decompress and does not compare digests: it reports the DiffID it saw. It
// guards against hostile input, not against another process that changes the
// same tree at the same time (a source file that changes while it is read is
// noticed, though).
package layertar
