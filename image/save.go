package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
	// Plain is a tar as it is.
	Plain Compression = "none"
	// Gzip is what every reader of OCI layouts knows.
	Gzip Compression = "gzip"
	// Zstd is faster and smaller, and read by tools from about 2023 on.
	Zstd Compression = "zstd"
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
	// Compression of the layers; Plain if empty. SaveDocker takes Plain only: its
	// point is that every reader can read it.
	Compression Compression
	// SpoolDir is where unnamed temporary files are made while a compressed layer's
	// length is not known; "" is os.TempDir.
	SpoolDir string
	// Progress, if set, is told of every layer.
	Progress func(Event)
}

// check fills in the defaults.
func (o *SaveOptions) check() error {
	if o.Format == "" {
		o.Format = SaveDocker
	}
	if o.Compression == "" {
		o.Compression = Plain
	}
	switch {
	case !slices.Contains([]SaveFormat{SaveDocker, SaveOCI, SaveOCIDir}, o.Format):
		return fmt.Errorf("%w format %q: choose docker, oci or oci-dir", snapshot.ErrInvalid, o.Format)
	case !slices.Contains([]Compression{Plain, Gzip, Zstd}, o.Compression):
		return fmt.Errorf("%w compression %q: choose none, gzip or zstd", snapshot.ErrInvalid, o.Compression)
	case o.Format == SaveDocker && o.Compression != Plain:
		return fmt.Errorf("%w: layers in a Docker archive are not compressed: choose the format oci, or compress the whole file",
			snapshot.ErrInvalid)
	}
	return nil
}

// Save writes images as one tar. A ref that is a name is kept as the image's
// name in the archive; one that is an id gives an image without a name. SaveOCIDir
// is refused: it has no stream.
func Save(ctx context.Context, s Saver, refs []string, w io.Writer, o SaveOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.Format == SaveOCIDir {
		return fmt.Errorf("%w: the format oci-dir needs a directory to write to", snapshot.ErrInvalid)
	}
	t := newTarSink(w)
	if err := saveInto(ctx, s, refs, t, o); err != nil {
		return err
	}
	return t.close()
}

// saveInto writes blobs first and the documents that name them afterwards, which
// is also the order of names in which Docker writes them.
func saveInto(ctx context.Context, s Saver, refs []string, to sink, o SaveOptions) error {
	images, err := imagesToSave(ctx, s, refs)
	if err != nil {
		return err
	}
	w := &saving{store: s, to: to, options: o, layers: map[digest.Digest]ocispec.Descriptor{}, blobs: map[digest.Digest]bool{}}
	for _, img := range images {
		if err := w.image(ctx, img); err != nil {
			return fmt.Errorf("saving %s: %w", img.label(), err)
		}
	}
	if o.Format == SaveDocker {
		if err := w.docker(images); err != nil {
			return err
		}
	}
	return w.index(images)
}

// savedImage is an image that is being written.
type savedImage struct {
	snapshot.Image
	view   configView
	infos  []snapshot.Info
	names  []Reference
	layers []ocispec.Descriptor
	// manifest describes the image's OCI manifest once it is written.
	manifest ocispec.Descriptor
}

func (i *savedImage) label() string {
	if len(i.names) > 0 {
		return i.names[0].Familiar()
	}
	return i.ID.String()
}

// mtime is the time of an image's files: what its config tells, or else 1970.
func (i *savedImage) mtime() time.Time {
	if i.view.Created.Unix() < 0 {
		return epoch()
	}
	return i.view.Created.Truncate(time.Second)
}

func epoch() time.Time { return time.Unix(0, 0).UTC() }

// imagesToSave finds the images that refs name, each once, with the names that
// were asked for.
func imagesToSave(ctx context.Context, s Saver, refs []string) ([]*savedImage, error) {
	if len(refs) == 0 {
		return nil, fmt.Errorf("%w: name at least one image to save", snapshot.ErrInvalid)
	}
	var images []*savedImage
	byID := map[digest.Digest]*savedImage{}
	for _, ref := range refs {
		found, name, err := findImage(ctx, s, ref)
		if err != nil {
			return nil, err
		}
		img := byID[found.ID]
		if img == nil {
			if img, err = describe(ctx, s, found); err != nil {
				return nil, err
			}
			byID[found.ID] = img
			images = append(images, img)
		}
		if name != nil && !slices.Contains(img.names, *name) {
			img.names = append(img.names, *name)
		}
	}
	return images, nil
}

// findImage finds an image by name or id, and tells the name.
func findImage(ctx context.Context, s Saver, ref string) (snapshot.Image, *Reference, error) {
	if name, err := ParseReference(ref); err == nil {
		img, err := s.Image(ctx, name.Familiar())
		if err == nil && slices.Contains(img.Refs, name.Familiar()) {
			return img, &name, nil
		}
		if err != nil && !errors.Is(err, snapshot.ErrNotFound) {
			return snapshot.Image{}, nil, err
		}
	}
	img, err := s.Image(ctx, ref)
	return img, nil, err
}

// describe reads what is to be known of an image before anything is written.
func describe(ctx context.Context, s Saver, img snapshot.Image) (*savedImage, error) {
	view, err := parseConfig(img.Config, "")
	if err != nil {
		return nil, fmt.Errorf("config of image %s: %w", img.ID, err)
	}
	if len(view.RootFS.DiffIDs) != len(img.Layers) {
		return nil, fmt.Errorf("%w: image %s has %d layers, its config tells of %d",
			snapshot.ErrCorrupt, img.ID, len(img.Layers), len(view.RootFS.DiffIDs))
	}
	saved := &savedImage{Image: img, view: view}
	for i, name := range img.Layers {
		info, err := s.Stat(ctx, name)
		if err != nil {
			return nil, err
		}
		if info.DiffID != view.RootFS.DiffIDs[i] {
			return nil, fmt.Errorf("%w: layer %s of image %s has the DiffID %s, its config says %s",
				snapshot.ErrCorrupt, name, img.ID, info.DiffID, view.RootFS.DiffIDs[i])
		}
		saved.infos = append(saved.infos, info)
	}
	return saved, nil
}

// saving is one archive on its way out.
type saving struct {
	store   Saver
	to      sink
	options SaveOptions
	layers  map[digest.Digest]ocispec.Descriptor // by DiffID
	blobs   map[digest.Digest]bool               // that are written
}

// image writes the blobs of an image: layers, config, manifest.
func (w *saving) image(ctx context.Context, img *savedImage) error {
	for i := range img.infos {
		d, err := w.layer(ctx, img, i)
		if err != nil {
			return err
		}
		img.layers = append(img.layers, d)
	}
	config, err := w.document(ocispec.MediaTypeImageConfig, img.Config, img.mtime())
	if err != nil {
		return err
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: img.layers}
	m.SchemaVersion = 2
	if m.Layers == nil {
		m.Layers = []ocispec.Descriptor{}
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	img.manifest, err = w.document(ocispec.MediaTypeImageManifest, data, img.mtime())
	if p := configPlatform(img.Config); p.Architecture != "" {
		img.manifest.Platform = &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	}
	return err
}

// document writes a blob that is in memory, unless it is written already.
func (w *saving) document(mediaType string, data []byte, at time.Time) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return d, w.blob(d, at, func(to io.Writer) error {
		_, err := to.Write(data)
		return err
	})
}

func (w *saving) blob(d ocispec.Descriptor, at time.Time, write func(io.Writer) error) error {
	if w.blobs[d.Digest] {
		return nil
	}
	w.blobs[d.Digest] = true
	return w.to.file(fileHeader{name: blobPath(d.Digest), size: d.Size, mtime: at}, write)
}

// index writes index.json and oci-layout: with them, the archive is whole.
func (w *saving) index(images []*savedImage) error {
	tags := map[string]int{}
	for _, img := range images {
		for _, n := range img.names {
			tags[n.Tag]++
		}
	}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	index.SchemaVersion = 2
	for _, img := range images {
		if len(img.names) == 0 {
			index.Manifests = append(index.Manifests, img.manifest)
		}
		for _, n := range img.names {
			d := img.manifest
			d.Annotations = map[string]string{containerdName: n.String(), ocispec.AnnotationRefName: n.Tag}
			if tags[n.Tag] > 1 {
				// Readers that look for the tag alone would find two.
				d.Annotations[ocispec.AnnotationRefName] = n.Familiar()
			}
			index.Manifests = append(index.Manifests, d)
		}
	}
	if err := w.json(ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	return w.json(ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
}

// json writes a document that is called by a name.
func (w *saving) json(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.bytes(name, data, epoch())
}

func (w *saving) bytes(name string, data []byte, at time.Time) error {
	return w.to.file(fileHeader{name: name, size: int64(len(data)), mtime: at}, func(to io.Writer) error {
		_, err := to.Write(data)
		return err
	})
}
