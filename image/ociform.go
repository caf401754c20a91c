package image

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxIndexDepth bounds indexes in indexes; maxDescriptors all of their entries.
	maxIndexDepth  = 8
	maxDescriptors = 10_000

	dockerManifestType = "application/vnd.docker.distribution.manifest.v2+json"
	dockerListType     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfigType   = "application/vnd.docker.container.image.v1+json"
	dockerLayerType    = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeignType  = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	// containerdName is the full name of an image, as containerd and Docker write
	// it beside OCI's ref.name, which is often the tag alone.
	containerdName = "io.containerd.image.name"
	// attestationKey marks BuildKit's attestations, which look like images for the
	// platform unknown/unknown.
	attestationKey = "vnd.docker.reference.type"
)

// ociIndex is index.json, or a blob of the same form (OCI image-spec
// image-index.md).
type ociIndex struct {
	MediaType string               `json:"mediaType"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

// ociManifest is one image (OCI image-spec manifest.md, or Docker's schema 2).
type ociManifest struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Config        ocispec.Descriptor   `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
}

// candidate is a manifest that an index names, with the names that lead to it.
type candidate struct {
	desc ocispec.Descriptor
	refs []string
	// nested is set for what an inner index names.
	nested bool
}

// readOCI reads an archive by its index.json.
func (o *opener) readOCI() ([]*ArchiveImage, error) {
	var layout ocispec.ImageLayout
	if err := o.docs.json(ocispec.ImageLayoutFile, &layout); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(layout.Version, "1.") {
		return nil, bad(ErrUnsupported, ocispec.ImageLayoutFile, "version %q of the OCI layout", layout.Version)
	}
	var index ociIndex
	if err := o.docs.json(ocispec.ImageIndexFile, &index); err != nil {
		return nil, err
	}
	w := indexWalk{opener: o}
	if err := w.walk(index, ocispec.ImageIndexFile, nil, 0); err != nil {
		return nil, err
	}
	images, err := o.choose(w.found)
	if err != nil {
		return nil, err
	}
	if len(images) == 0 && len(index.Manifests) > 0 {
		return nil, bad(ErrUnsupported, ocispec.ImageIndexFile, "holds no container image, only other things")
	}
	return merge(images), nil
}

// indexWalk collects the manifests of nested indexes.
type indexWalk struct {
	*opener
	found []candidate
	seen  int
}

func (w *indexWalk) walk(index ociIndex, member string, refs []string, depth int) error {
	if depth > maxIndexDepth {
		return bad(ErrMalformed, member, "indexes are nested more than %d deep", maxIndexDepth)
	}
	if w.seen += len(index.Manifests); w.seen > maxDescriptors {
		return bad(ErrMalformed, member, "more than %d manifests", maxDescriptors)
	}
	for _, d := range index.Manifests {
		if d.Annotations[attestationKey] != "" || d.Platform != nil && d.Platform.OS == "unknown" {
			continue
		}
		if err := checkDigest(d.Digest, "manifest", member); err != nil {
			return err
		}
		names, err := annotatedRefs(d.Annotations, w.baseName)
		if err != nil {
			return blame(err, "", member)
		}
		if len(names) == 0 {
			names = refs
		}
		if err := w.entry(d, names, depth); err != nil {
			return err
		}
	}
	return nil
}

// entry takes one descriptor of an index.
func (w *indexWalk) entry(d ocispec.Descriptor, refs []string, depth int) error {
	nested := d.MediaType == ocispec.MediaTypeImageIndex || d.MediaType == dockerListType
	switch {
	case d.MediaType == "" || nested:
		var index ociIndex
		err := w.blobJSON(d, &index)
		if errors.Is(err, ErrMissing) && depth > 0 {
			return nil // an index may name more than was saved: see offers
		}
		if err != nil {
			return err
		}
		if nested || len(index.Manifests) > 0 {
			return w.walk(index, blobPath(d.Digest), refs, depth+1)
		}
	case d.MediaType == ocispec.MediaTypeImageManifest || d.MediaType == dockerManifestType:
	case strings.HasPrefix(d.MediaType, "application/vnd.docker.distribution.manifest.v1+"):
		return bad(ErrUnsupported, blobPath(d.Digest), "Docker's manifest schema 1: convert the image with skopeo copy")
	default:
		return nil // an artifact of some other kind
	}
	w.found = append(w.found, candidate{desc: d, refs: refs, nested: depth > 0})
	return nil
}

// annotatedRefs are the names that an index gives an image. A bare tag is put
// behind the name of the archive, as other tools do it; or behind the repository
// of containerd's name, whose tag is stale where the two differ: tools that edit
// layouts, such as umoci, copy the annotations that they do not know.
func annotatedRefs(a map[string]string, baseName string) ([]string, error) {
	full, name := a[containerdName], a[ocispec.AnnotationRefName]
	bareTag := referenceTag.MatchString(name)
	if full != "" && !strings.Contains(full, "@") {
		r, err := ParseReference(full)
		if err != nil {
			return nil, &Error{Kind: ErrMalformed, Text: "annotation " + containerdName, Err: err}
		}
		if bareTag {
			r.Tag = name
		}
		return []string{r.Familiar()}, nil
	}
	switch {
	case name == "" || strings.Contains(name, "@"):
		return nil, nil
	case strings.ContainsAny(name, "/:"):
		n, err := Normalize(name)
		if err != nil {
			return nil, &Error{Kind: ErrMalformed, Text: "annotation " + ocispec.AnnotationRefName, Err: err}
		}
		return []string{n}, nil
	}
	n, err := Normalize(baseName + ":" + name)
	if err != nil {
		return nil, nil // the tag is all that is known of its name
	}
	return []string{n}, nil
}

// choose takes, of the manifests that share a name, the one for the platform that
// is wanted, and of those without a name every one for it.
func (o *opener) choose(found []candidate) ([]*ArchiveImage, error) {
	var keys []string
	groups := map[string][]candidate{}
	for _, c := range found {
		key := strings.Join(c.refs, " ")
		if groups[key] == nil {
			keys = append(keys, key)
		}
		groups[key] = append(groups[key], c)
	}
	var images []*ArchiveImage
	for _, key := range keys {
		more, err := o.chooseFrom(groups[key])
		if err != nil {
			return nil, err
		}
		if images = append(images, more...); len(images) > maxImages {
			return nil, bad(ErrMalformed, ocispec.ImageIndexFile, "more than %d images", maxImages)
		}
	}
	return images, nil
}

// offer is a candidate that was read.
type offer struct {
	image    *ArchiveImage
	platform platform
}

func (o *opener) chooseFrom(group []candidate) ([]*ArchiveImage, error) {
	offers, missing, err := o.offers(group)
	if err != nil {
		return nil, err
	}
	if len(offers) == 0 {
		return nil, missing
	}
	best := 0
	var have []string
	for _, f := range offers {
		best = max(best, o.platform.fits(f.platform))
		if s := f.platform.String(); !slices.Contains(have, s) {
			have = append(have, s)
		}
	}
	if best == 0 && !o.explicit && len(have) == 1 {
		best = -1 // nothing to choose from: take what there is
	}
	if best == 0 {
		return nil, bad(ErrUnsupported, "", "no image for %s; there are images for %s: choose one with --platform",
			o.platform, strings.Join(have, ", "))
	}
	var images []*ArchiveImage
	for _, f := range offers {
		if best < 0 || o.platform.fits(f.platform) == best {
			images = append(images, f.image)
		}
	}
	if images = merge(images); len(images) > 1 && len(group[0].refs) > 0 {
		return nil, bad(ErrMalformed, ocispec.ImageIndexFile, "two images have the name %s: %s and %s",
			group[0].refs[0], images[0].ID, images[1].ID)
	}
	return images, nil
}

// offers reads the candidates that the archive has. Docker's containerd store
// saves an index of all platforms with the contents of some, so a manifest that
// an inner index names may be missing, and so may the layers of a platform that
// nobody asked for. missing is what was passed over.
func (o *opener) offers(group []candidate) (offers []offer, missing, err error) {
	for _, c := range group {
		img, p, err := o.ociImage(c)
		switch {
		case errors.Is(err, ErrMissing):
			there, herr := o.docs.has(blobPath(c.desc.Digest))
			wanted := there && (p.OS == "" || o.platform.fits(p) > 0)
			if herr != nil || wanted || !c.nested {
				return nil, nil, err
			}
			if missing == nil {
				missing = err
			}
		case err != nil:
			return nil, nil, err
		case img != nil:
			offers = append(offers, offer{img, p})
		}
	}
	return offers, missing, nil
}

// ociImage reads a manifest and its config; nil if it is no image.
func (o *opener) ociImage(c candidate) (*ArchiveImage, platform, error) {
	var p platform
	if d := c.desc.Platform; d != nil {
		p = platform{OS: d.OS, Architecture: d.Architecture, Variant: d.Variant}
	}
	var m ociManifest
	name := blobPath(c.desc.Digest)
	if err := o.blobJSON(c.desc, &m); err != nil {
		return nil, p, err
	}
	switch m.Config.MediaType {
	case ocispec.MediaTypeImageConfig, dockerConfigType:
	default:
		return nil, p, nil
	}
	if p.OS != "" && p.OS != "linux" {
		return nil, p, nil
	}
	if m.SchemaVersion != 2 {
		return nil, p, bad(ErrUnsupported, name, "manifest of schema version %d", m.SchemaVersion)
	}
	if len(m.Layers) > maxLayers {
		return nil, p, bad(ErrUnsupported, name, "%d layers are more than %d", len(m.Layers), maxLayers)
	}
	config, err := o.blob(m.Config)
	if err != nil {
		return nil, p, blame(err, "", name)
	}
	layers := make([]ArchiveLayer, len(m.Layers))
	for i, d := range m.Layers {
		if layers[i], err = o.blobLayer(d, name); err != nil {
			return nil, p, err
		}
	}
	img, err := newArchiveImage(config, blobPath(m.Config.Digest), layers)
	if err != nil {
		return nil, p, err
	}
	img.Refs = slices.Clone(c.refs)
	if p.OS == "" {
		p = configPlatform(config)
	}
	return img, p, nil
}

// blobLayer checks that the blob of a layer is there and as long as it should be.
func (o *opener) blobLayer(d ocispec.Descriptor, manifest string) (ArchiveLayer, error) {
	if err := checkDigest(d.Digest, "layer", manifest); err != nil {
		return ArchiveLayer{}, err
	}
	if !isLayerType(d.MediaType) {
		return ArchiveLayer{}, bad(ErrUnsupported, manifest, "layer %s of type %s", d.Digest, printable(d.MediaType))
	}
	m, err := o.sizedBlob(d)
	if err != nil {
		if errors.Is(err, ErrMissing) && len(d.URLs) > 0 {
			err = bad(ErrMissing, manifest, "layer %s is not in the archive, but to be fetched from %s", d.Digest, printable(d.URLs[0]))
		}
		return ArchiveLayer{}, err
	}
	return ArchiveLayer{Member: blobPath(d.Digest), Size: d.Size, real: m.name, blob: d.Digest}, m.Close()
}

// isLayerType knows the media types of layers. Which compression one names is not
// looked at: the contents tell.
func isLayerType(mediaType string) bool {
	for _, base := range []string{
		ocispec.MediaTypeImageLayer, "application/vnd.oci.image.layer.nondistributable.v1.tar", dockerLayerType, dockerForeignType,
	} {
		if rest, ok := strings.CutPrefix(mediaType, base); ok {
			return slices.Contains([]string{"", "+gzip", "+zstd", ".gzip", ".zstd"}, rest)
		}
	}
	return false
}

func blobPath(d digest.Digest) string {
	return fmt.Sprintf("%s/%s/%s", ocispec.ImageBlobsDir, d.Algorithm(), d.Encoded())
}

// sizedBlob opens a blob and compares its size with the descriptor's.
func (o *opener) sizedBlob(d ocispec.Descriptor) (*member, error) {
	m, err := o.docs.members.open(blobPath(d.Digest))
	if err != nil {
		return nil, err
	}
	if m.size != d.Size {
		return nil, errors.Join(bad(ErrDigest, m.name, "has %d bytes, its descriptor says %d", m.size, d.Size), m.Close())
	}
	return m, nil
}

// blob reads a document that is named by its digest.
func (o *opener) blob(d ocispec.Descriptor) ([]byte, error) {
	if err := checkDigest(d.Digest, "descriptor", ""); err != nil {
		return nil, err
	}
	if data, ok := o.blobs[d.Digest]; ok && int64(len(data)) == d.Size {
		return data, nil
	}
	m, err := o.sizedBlob(d)
	if err != nil {
		return nil, err
	}
	if err := m.Close(); err != nil {
		return nil, err
	}
	data, err := o.docs.bytes(blobPath(d.Digest))
	if err != nil {
		return nil, err
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest {
		return nil, bad(ErrDigest, m.name, "has the digest %s", got)
	}
	o.blobs[d.Digest] = data
	return data, nil
}

func (o *opener) blobJSON(d ocispec.Descriptor, v any) error {
	data, err := o.blob(d)
	if err != nil {
		return err
	}
	return parseDocument(data, blobPath(d.Digest), v)
}
