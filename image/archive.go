package image

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
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
	source  string
	form    Form
	images  []*ArchiveImage
	members members
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
	// real is the member after links, blob the digest of its bytes where a document
	// tells it.
	real string
	blob digest.Digest
}

// Open opens an archive: a file, a directory (an OCI layout), or standard input
// for "-". The documents of all images are read and checked, and every layer
// that they name is there; an archive without DiffIDs (FormDockerV1) is read
// through once to compute them. Errors of the archive are ErrArchive, those of
// the file system are *fs.PathError. The caller closes the archive.
func Open(ctx context.Context, source string, o OpenOptions) (*Archive, error) {
	want, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	ms, err := openMembers(ctx, source, o)
	if err != nil {
		return nil, blame(err, source, "")
	}
	op := &opener{
		docs: documents{members: ms}, platform: want, explicit: o.Platform != "", baseName: baseName(source), progress: o.Progress,
		blobs: map[digest.Digest][]byte{}, hashed: map[string]digest.Digest{},
	}
	a := &Archive{source: source, members: ms}
	if a.form, err = op.form(); err == nil {
		a.images, err = op.read(ctx, a.form)
	}
	if err != nil {
		return nil, errors.Join(blame(err, source, ""), ms.Close())
	}
	return a, nil
}

// Form tells how the archive was read.
func (a *Archive) Form() Form { return a.form }

// Images are the images of the archive, in its own order.
func (a *Archive) Images() []*ArchiveImage { return a.images }

// Close releases the archive and its temporary files.
func (a *Archive) Close() error { return a.members.Close() }

// opener reads the documents of an archive.
type opener struct {
	docs     documents
	platform platform
	explicit bool // somebody asked for the platform
	baseName string
	progress func(Event)
	blobs    map[digest.Digest][]byte
	hashed   map[string]digest.Digest
}

func (o *opener) report(e Event) {
	if o.progress != nil {
		o.progress(e)
	}
}

// form tells what the archive is. A file may be several forms at once; Docker's
// manifest.json goes first, because early hybrids had empty manifests in their OCI
// part (moby issue 47065), unless a platform is asked for, which only OCI's index
// can tell.
func (o *opener) form() (Form, error) {
	docker, err := o.docs.has("manifest.json")
	if err != nil {
		return "", err
	}
	oci, err := o.docs.has("index.json")
	if err != nil {
		return "", err
	}
	_, isDir := o.docs.members.(dirMembers)
	switch {
	case docker && isDir && !oci:
		return "", bad(ErrUnsupported, "", "a directory with a manifest.json and no index.json, as skopeo's dir: transport makes it: "+
			"copy it to an OCI layout (skopeo copy dir:… oci:…)")
	case docker && !(oci && o.explicit):
		return FormDocker, nil
	case oci:
		return FormOCI, nil
	case isDir:
		return "", bad(ErrMalformed, "", "no index.json in it: not an OCI image layout")
	}
	return FormDockerV1, nil
}

func (o *opener) read(ctx context.Context, f Form) (images []*ArchiveImage, err error) {
	switch f {
	case FormDocker:
		images, err = o.readDocker()
	case FormOCI:
		return o.readOCI() // it chooses by platform itself
	default:
		images, err = o.readV1(ctx)
	}
	if err != nil || !o.explicit {
		return images, err
	}
	for _, img := range images {
		if p := configPlatform(img.Config); o.platform.fits(p) == 0 {
			return nil, bad(ErrUnsupported, "", "the image %s is for %s, not for %s", img.ID, p, o.platform)
		}
	}
	return images, nil
}

// baseName is the repository for images of which an archive tells a bare tag: the
// name of the file or directory, without what the file's kind adds to it.
func baseName(source string) string {
	abs, err := filepath.Abs(source)
	if source == "-" || err != nil {
		return ""
	}
	name := strings.ToLower(filepath.Base(abs))
	for _, ext := range []string{".gz", ".tgz", ".zst", ".bz2", ".tar", ".oci"} {
		name = strings.TrimSuffix(name, ext)
	}
	return name
}
