package dockerroot

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
)

// Image is one of Docker's images.
type Image struct {
	ID      digest.Digest
	Refs    []string // "repository:tag", sorted
	Created time.Time
	Config  []byte
	// Layers are the driver's ids of its layers, lowest first; "" for one that Docker
	// has lost.
	Layers  []string
	DiffIDs []digest.Digest
}

// Container is one of Docker's containers.
type Container struct {
	ID    string
	Name  string // without the slash
	Image string // as it was asked for
	// ImageID is its image's id.
	ImageID digest.Digest
	// Layer and Init are the driver's ids of its writable layer and of the one below.
	Layer, Init string
}

// Inventory is what Docker knows of one driver's layers.
type Inventory struct {
	Images     []Image
	Containers []Container
	// Known are all of the driver's ids that Docker's layer database names. BuildKit
	// keeps more, in a database of its own.
	Known map[string]bool
}

// maxFile bounds what is read of one file; image configurations are the largest.
const maxFile = 8 << 20

// Read reads the data root that a driver's home lies in: HOME is DATAROOT/DRIVER. A
// data root that is gone is os.ErrNotExist.
func Read(home string) (Inventory, error) {
	r := root{data: filepath.Dir(home), driver: filepath.Base(home)}
	if _, err := os.Stat(r.image()); err != nil {
		return Inventory{}, err
	}
	inv := Inventory{Known: map[string]bool{}}
	chains, err := r.chains()
	if err != nil {
		return inv, err
	}
	for _, id := range chains {
		inv.Known[id] = true
	}
	if inv.Images, err = r.images(chains); err != nil {
		return inv, err
	}
	inv.Containers, err = r.containers()
	for _, c := range inv.Containers {
		inv.Known[c.Layer], inv.Known[c.Init] = true, true
	}
	return inv, err
}

type root struct{ data, driver string }

func (r root) image(below ...string) string {
	return filepath.Join(append([]string{r.data, "image", r.driver}, below...)...)
}

// text is a small file's content; "" if it is missing or empty.
func text(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() > maxFile {
		return ""
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// names lists a directory; a missing one is empty.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all, nil
}

// chains maps chain ids to the driver's ids, those of half-deleted layers included.
func (r root) chains() (map[string]string, error) {
	chains := map[string]string{}
	for _, algorithm := range []string{"sha256", "sha384", "sha512"} {
		dirs, err := names(r.image("layerdb", algorithm))
		if err != nil {
			return nil, err
		}
		for _, d := range dirs {
			if id := text(r.image("layerdb", algorithm, d, "cache-id")); id != "" {
				chains[algorithm+":"+d] = id
			}
		}
	}
	return chains, nil
}

func (r root) images(chains map[string]string) ([]Image, error) {
	refs := r.refs()
	ids, err := names(r.image("imagedb", "content", "sha256"))
	if err != nil {
		return nil, err
	}
	var images []Image
	for _, hex := range ids {
		raw := []byte(text(r.image("imagedb", "content", "sha256", hex)))
		var config struct {
			Created time.Time `json:"created"`
			RootFS  struct {
				DiffIDs []digest.Digest `json:"diff_ids"`
			} `json:"rootfs"`
		}
		if json.Unmarshal(raw, &config) != nil {
			continue
		}
		im := Image{ID: digest.NewDigestFromEncoded(digest.SHA256, hex), Created: config.Created, Config: raw, DiffIDs: config.RootFS.DiffIDs}
		im.Refs = refs[im.ID]
		slices.Sort(im.Refs)
		for _, chain := range identity.ChainIDs(slices.Clone(im.DiffIDs)) {
			im.Layers = append(im.Layers, chains[chain.String()])
		}
		images = append(images, im)
	}
	return images, nil
}

// refs are the names of images, without those by digest.
func (r root) refs() map[digest.Digest][]string {
	var file struct {
		Repositories map[string]map[string]digest.Digest
	}
	refs := map[digest.Digest][]string{}
	if json.Unmarshal([]byte(text(r.image("repositories.json"))), &file) != nil {
		return refs
	}
	for _, tags := range file.Repositories {
		for ref, id := range tags {
			if !strings.Contains(ref, "@") {
				refs[id] = append(refs[id], ref)
			}
		}
	}
	return refs
}

// containers are those that have a layer. One of which only the layer is left, a
// build's for instance, has no name.
func (r root) containers() ([]Container, error) {
	ids, err := names(r.image("layerdb", "mounts"))
	if err != nil {
		return nil, err
	}
	var all []Container
	for _, id := range ids {
		c := Container{
			ID: id, Layer: text(r.image("layerdb", "mounts", id, "mount-id")),
			Init: text(r.image("layerdb", "mounts", id, "init-id")),
		}
		if c.Layer == "" {
			continue
		}
		var config struct {
			Name   string
			Image  digest.Digest
			Config struct{ Image string }
		}
		if json.Unmarshal([]byte(text(filepath.Join(r.data, "containers", id, "config.v2.json"))), &config) == nil {
			c.Name, c.Image, c.ImageID = strings.TrimPrefix(config.Name, "/"), config.Config.Image, config.Image
		}
		all = append(all, c)
	}
	return all, nil
}
