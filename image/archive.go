package image

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// Form is how an archive says what it holds.
type Form string

const (
	// FormDocker has a manifest.json: Docker 1.10 and later, hybrids with an OCI
	// layout included.
	FormDocker Form = "docker"
	// FormDockerV1 has repositories, VERSION, json and layer.tar files only:
	// Docker up to 1.9.
	FormDockerV1 Form = "docker-v1"
	// FormOCI is an OCI image layout, in a tar or a directory.
	FormOCI Form = "oci"
)

// OpenOptions say how an archive is read. The zero value serves for files and
// directories that are not compressed as a whole.
type OpenOptions struct {
	// Stdin is read when the source is "-".
	Stdin io.Reader
	// SpoolDir is where unnamed temporary files are made; "" is os.TempDir.
	SpoolDir string
	// SpoolLimit bounds such a file, in bytes; 0 is nine tenths of the space that
	// is free in SpoolDir when the archive is opened.
	SpoolLimit int64
	// Platform chooses among the images of an index, "os/architecture[/variant]".
	// "" is this machine's, and any other if there is no choice.
	Platform string
	// Progress, if set, is told of spooling and hashing.
	Progress func(Event)
}

// Archive is an open archive: its images are known and their documents checked,
// their layers not read yet. Its methods may be called at once from many
// goroutines, except Close.
type Archive struct {
	source string
	form   Form
	images []*ArchiveImage
}

// ArchiveImage is one image of an archive.
type ArchiveImage struct {
	// ID is the digest of Config.
	ID digest.Digest
	// Config is the image's configuration, byte for byte.
	Config []byte
	// Refs are the image's names as Docker shows them; it may have none.
	Refs []string
	// Created is the time that the config tells, zero if it tells none.
	Created time.Time
	// Layers are the image's layers, lowest first.
	Layers []ArchiveLayer
}

// ArchiveLayer is one layer of an image in an archive.
type ArchiveLayer struct {
	// DiffID is the digest of the uncompressed tar.
	DiffID digest.Digest
	// Size is the length in the archive, compressed if it is compressed.
	Size int64
	// Member is where the archive has it, for messages.
	Member string
}

// Open opens an archive: a file, a directory (an OCI layout), or standard input
// for "-". The documents of all images are read and checked, and every layer
// that they name is there; an archive without DiffIDs (FormDockerV1) is read
// through once to compute them. Errors of the archive are ErrArchive, those of
// the file system are *fs.PathError. The caller closes the archive.
func Open(ctx context.Context, source string, o OpenOptions) (*Archive, error) { panic("soon") }

// Form tells how the archive was read.
func (a *Archive) Form() Form { return a.form }

// Images are the images of the archive, in its own order.
func (a *Archive) Images() []*ArchiveImage { return a.images }

// Close releases the archive and its temporary files.
func (a *Archive) Close() error { panic("soon") }
