package image

import (
	"encoding/json"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// savedManifest is an image in manifest.json as Docker 25 and later writes it.
type savedManifest struct {
	Config       string                               `json:"Config"`
	RepoTags     []string                             `json:"RepoTags"`
	Layers       []string                             `json:"Layers"`
	LayerSources map[digest.Digest]ocispec.Descriptor `json:"LayerSources,omitempty"`
}

// docker writes manifest.json, which Docker 1.10 and later and skopeo read, and
// the files of the form before it. All of them refer to the blobs of the OCI
// layout, so nothing is in the archive twice.
func (w *saving) docker(images []*savedImage) error {
	manifests := []savedManifest{}
	repositories := map[string]map[string]string{}
	written := map[string]bool{}
	for _, img := range images {
		m := savedManifest{Config: blobPath(img.ID), Layers: []string{}, LayerSources: map[digest.Digest]ocispec.Descriptor{}}
		for i, l := range img.layers {
			m.Layers = append(m.Layers, blobPath(l.Digest))
			m.LayerSources[img.infos[i].DiffID] = l
		}
		top, err := w.v1(img, written)
		if err != nil {
			return err
		}
		for _, n := range img.names {
			m.RepoTags = append(m.RepoTags, n.Familiar())
			repository := strings.TrimSuffix(n.Familiar(), ":"+n.Tag)
			if repositories[repository] == nil {
				repositories[repository] = map[string]string{}
			}
			repositories[repository][n.Tag] = top
		}
		manifests = append(manifests, m)
	}
	if err := w.json("manifest.json", manifests); err != nil {
		return err
	}
	if len(repositories) == 0 {
		return nil
	}
	return w.json("repositories", repositories)
}

// v1 writes an image in the form of Docker up to 1.9: a directory per layer, with
// the layer as a link. It returns the id of the top layer.
func (w *saving) v1(img *savedImage, written map[string]bool) (string, error) {
	parent, chain := "", digest.Digest("")
	for i, l := range img.layers {
		v := object{}
		chain = digest.FromString(chain.String() + " " + l.Digest.String())
		id := chain.Encoded()
		if i == len(img.layers)-1 {
			// Images that differ in their configs alone differ in their top layers.
			if err := json.Unmarshal(img.Config, &v); err != nil {
				return "", err
			}
			delete(v, "rootfs")
			delete(v, "history")
			id = digest.FromString(chain.String() + " " + img.ID.String()).Encoded()
		} else if err := v.set("created", epoch()); err != nil {
			return "", err
		}
		if err := w.v1Layer(v, id, parent, l, written, img); err != nil {
			return "", err
		}
		parent = id
	}
	return parent, nil
}

func (w *saving) v1Layer(v object, id, parent string, l ocispec.Descriptor, written map[string]bool, img *savedImage) error {
	if written[id] {
		return nil
	}
	written[id] = true
	if err := v.set("id", id); err != nil {
		return err
	}
	delete(v, "parent")
	if parent != "" {
		if err := v.set("parent", parent); err != nil {
			return err
		}
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := w.bytes(id+"/VERSION", []byte("1.0"), img.mtime()); err != nil {
		return err
	}
	if err := w.bytes(id+"/json", data, img.mtime()); err != nil {
		return err
	}
	return w.to.link(id+"/layer.tar", "../"+blobPath(l.Digest), img.mtime())
}
