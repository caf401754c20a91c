package image

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// maxImages bounds the images of an archive, and the descriptors of an index.
const maxImages = 1000

// dockerManifest is one image in manifest.json (Docker image-spec 1.2, "Combined
// Image JSON + Filesystem Changeset Format"). Parent and LayerSources repeat what
// config and contents say and are not believed.
type dockerManifest struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// readDocker reads an archive by its manifest.json.
func (o *opener) readDocker() ([]*ArchiveImage, error) {
	const name = "manifest.json"
	var manifests []dockerManifest
	if err := o.docs.json(name, &manifests); err != nil {
		return nil, err
	}
	if len(manifests) > maxImages {
		return nil, bad(ErrMalformed, name, "%d images are more than %d", len(manifests), maxImages)
	}
	var images []*ArchiveImage
	for _, m := range manifests {
		img, err := o.dockerImage(m)
		if err != nil {
			return nil, blame(err, "", name)
		}
		images = append(images, img)
	}
	return merge(images), nil
}

func (o *opener) dockerImage(m dockerManifest) (*ArchiveImage, error) {
	name, err := cleanName(m.Config)
	if err != nil {
		return nil, err
	}
	config, err := o.docs.bytes(name)
	if err != nil {
		return nil, err
	}
	if want := digestInName(name); want != "" && want.Algorithm().FromBytes(config) != want {
		return nil, bad(ErrDigest, name, "the config has the digest %s", want.Algorithm().FromBytes(config))
	}
	if len(m.Layers) > maxLayers {
		return nil, bad(ErrUnsupported, "", "%d layers are more than %d", len(m.Layers), maxLayers)
	}
	layers := make([]ArchiveLayer, len(m.Layers))
	for i, l := range m.Layers {
		if layers[i], err = o.fileLayer(l); err != nil {
			return nil, err
		}
	}
	img, err := newArchiveImage(config, name, layers)
	if err != nil {
		return nil, err
	}
	for _, ref := range m.RepoTags {
		n, err := Normalize(ref)
		if err != nil {
			return nil, &Error{Kind: ErrMalformed, Text: "RepoTags", Err: err}
		}
		img.Refs = append(img.Refs, n)
	}
	return img, nil
}

// fileLayer is a layer that a document names by its path. A path in blobs/ tells
// the digest of the file, which is then verified.
func (o *opener) fileLayer(name string) (ArchiveLayer, error) {
	name, err := cleanName(name)
	if err != nil {
		return ArchiveLayer{}, err
	}
	m, err := o.docs.members.open(name)
	if err != nil {
		return ArchiveLayer{}, err
	}
	l := ArchiveLayer{Member: name, Size: m.size, real: m.name}
	if strings.HasPrefix(m.name, "blobs/") {
		l.blob = digestInName(m.name)
	}
	return l, m.Close()
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// digestInName is the digest that a file's name promises: blobs/sha256/HEX, HEX.json
// or sha256:HEX; "" if it promises none.
func digestInName(name string) digest.Digest {
	dir, base := path.Split(name)
	base = strings.TrimPrefix(strings.TrimSuffix(base, ".json"), "sha256:")
	if algorithm, ok := strings.CutPrefix(path.Clean(dir), "blobs/"); ok && algorithm != "sha256" {
		if d := digest.Digest(algorithm + ":" + base); d.Validate() == nil {
			return d
		}
		return ""
	}
	if !hexDigest.MatchString(base) {
		return ""
	}
	return digest.NewDigestFromEncoded(digest.SHA256, base)
}

// merge joins the names of images that appear several times.
func merge(images []*ArchiveImage) []*ArchiveImage {
	var merged []*ArchiveImage
	byID := map[digest.Digest]*ArchiveImage{}
	for _, img := range images {
		first, ok := byID[img.ID]
		if !ok {
			byID[img.ID] = img
			merged = append(merged, img)
			first, img = img, &ArchiveImage{Refs: img.Refs}
			first.Refs = nil
		}
		for _, ref := range img.Refs {
			if !slices.Contains(first.Refs, ref) {
				first.Refs = append(first.Refs, ref)
			}
		}
	}
	return merged
}
