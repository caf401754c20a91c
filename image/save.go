package image

import (
	"context"
	"io"

	"blockstore.dev/blockstore/snapshot"
)

// SaveFormat is what Save writes.
type SaveFormat string

const (
	// SaveDocker is a tar that is a Docker archive and an OCI layout at once, as
	// Docker 25 and later writes it, with the older repositories form beside it.
	// Its layers are not compressed.
	SaveDocker SaveFormat = "docker"
	// SaveOCI is an OCI layout in a tar.
	SaveOCI SaveFormat = "oci"
	// SaveOCIDir is an OCI layout in a directory.
	SaveOCIDir SaveFormat = "oci-dir"
)

// Compression is how layers are kept in an archive.
type Compression string

const (
	Plain Compression = "none"
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
)

// Saver is what Save needs of the store; *snapshot.Store is one.
type Saver interface {
	Image(ctx context.Context, ref string) (snapshot.Image, error)
	Stat(ctx context.Context, name string) (snapshot.Info, error)
	WriteLayer(ctx context.Context, name string, w io.Writer) error
}

// SaveOptions say what is written.
type SaveOptions struct {
	// Format is SaveDocker if empty.
	Format SaveFormat
	// Compression of the layers; Plain if empty. SaveDocker takes Plain only,
	// because no version of Docker before 23 reads zstd.
	Compression Compression
	// SpoolDir is where unnamed temporary files are made while a compressed layer's
	// length is not known; "" is os.TempDir.
	SpoolDir string
	// Progress, if set, is told of every layer.
	Progress func(Event)
}

// Save writes images as one tar. A ref that is a name is kept as the image's
// name in the archive; one that is an id gives an image without a name. SaveOCIDir
// is refused: it has no stream.
func Save(ctx context.Context, s Saver, refs []string, w io.Writer, o SaveOptions) error {
	panic("soon")
}

// SaveTo writes images to path: a file, or a directory for SaveOCIDir. It is there
// whole and durable, or not at all: it is made beside path under a temporary
// name. A file that exists is replaced; a directory that exists must be empty.
func SaveTo(ctx context.Context, s Saver, refs []string, path string, o SaveOptions) error {
	panic("soon")
}
