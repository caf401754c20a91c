package image

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// v1Image is what an image was before Docker 1.10: every layer has a json file
// with the config as of that layer and the id of the layer below (Docker
// image-spec 1.0 and 1.1). Docker 1.9 also wrote the parent as a digest.
type v1Image struct {
	ID        string      `json:"id"`
	Parent    string      `json:"parent"`
	ParentID  string      `json:"parent_id"`
	Created   lenientTime `json:"created"`
	Author    string      `json:"author"`
	Comment   string      `json:"comment"`
	OS        string      `json:"os"`
	Container struct {
		Cmd command `json:"Cmd"`
	} `json:"container_config"`
}

// command is a list of words; one string in the oldest images.
type command []string

// UnmarshalJSON takes both.
func (c *command) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		if one != "" {
			*c = command{one}
		}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(c))
}

func (v v1Image) parent() string {
	if v.Parent == "" {
		return strings.TrimPrefix(v.ParentID, "sha256:")
	}
	return v.Parent
}

// readV1 reads an archive of Docker up to 1.9. Its images have no DiffIDs: every
// layer is read through to compute them.
func (o *opener) readV1(ctx context.Context) ([]*ArchiveImage, error) {
	tops, err := o.v1Tops()
	if err != nil {
		return nil, err
	}
	var images []*ArchiveImage
	for _, id := range slices.Sorted(maps.Keys(tops)) {
		img, err := o.v1Image(ctx, id)
		if err != nil {
			return nil, err
		}
		img.Refs = tops[id]
		images = append(images, img)
	}
	return merge(images), nil
}

// v1Tops are the ids of the images, with their names: what repositories tells, or
// else every id that is nobody's parent.
func (o *opener) v1Tops() (map[string][]string, error) {
	const name = "repositories"
	tops := map[string][]string{}
	ok, err := o.docs.has(name)
	if err != nil {
		return nil, err
	}
	if ok {
		var repositories map[string]map[string]string
		if err := o.docs.json(name, &repositories); err != nil {
			return nil, err
		}
		for repository, tags := range repositories {
			for tag, id := range tags {
				ref, err := Normalize(repository + ":" + tag)
				if err != nil {
					return nil, &Error{Kind: ErrMalformed, Member: name, Err: err}
				}
				tops[id] = append(tops[id], ref)
			}
		}
		for _, refs := range tops {
			slices.Sort(refs)
		}
	}
	if len(tops) == 0 {
		if tops, err = o.v1Childless(); err != nil {
			return nil, err
		}
	}
	if len(tops) > maxImages {
		return nil, bad(ErrMalformed, name, "more than %d images", maxImages)
	}
	return tops, nil
}

// v1Childless are the ids in an archive that no other id has as its parent.
func (o *opener) v1Childless() (map[string][]string, error) {
	tops := map[string][]string{}
	var parents []string
	for _, name := range o.docs.members.names() {
		id, ok := strings.CutSuffix(name, "/json")
		if !ok || !hexDigest.MatchString(id) {
			continue
		}
		v, _, err := o.v1JSON(id)
		if err != nil {
			return nil, err
		}
		tops[id] = nil
		parents = append(parents, v.parent())
	}
	for _, p := range parents {
		delete(tops, p)
	}
	if len(tops) == 0 {
		return nil, bad(ErrMalformed, "", "no manifest.json, index.json, repositories or layers in it: not an image archive")
	}
	return tops, nil
}

func (o *opener) v1JSON(id string) (v v1Image, raw []byte, err error) {
	if !hexDigest.MatchString(id) {
		return v, nil, bad(ErrMalformed, "", "%s is not the id of a layer", printable(id))
	}
	name := id + "/json"
	if raw, err = o.docs.bytes(name); err != nil {
		return v, nil, err
	}
	if err := parseDocument(raw, name, &v); err != nil {
		return v, nil, err
	}
	if v.ID != id {
		return v, nil, bad(ErrMalformed, name, "has the id %s", printable(v.ID))
	}
	return v, raw, nil
}

// v1Image follows the chain of parents down from an id.
func (o *opener) v1Image(ctx context.Context, id string) (*ArchiveImage, error) {
	_, top, err := o.v1JSON(id)
	if err != nil {
		return nil, err
	}
	var layers []ArchiveLayer
	var history []historyEntry
	for at := id; at != ""; {
		if len(layers) == maxLayers {
			return nil, bad(ErrMalformed, id+"/json", "more than %d layers, or a loop of parents", maxLayers)
		}
		v, _, err := o.v1JSON(at)
		if err != nil {
			return nil, err
		}
		l, err := o.fileLayer(at + "/layer.tar")
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
		history = append(history, historyEntry{
			Created: v.Created, Author: v.Author, CreatedBy: strings.Join(v.Container.Cmd, " "), Comment: v.Comment,
		})
		at = v.parent()
	}
	slices.Reverse(layers)
	slices.Reverse(history)
	diffIDs, err := o.diffIDs(ctx, layers, id)
	if err != nil {
		return nil, err
	}
	config, err := configFromV1(top, diffIDs, history)
	if err != nil {
		return nil, damaged(err, id+"/json", "making a config")
	}
	return newArchiveImage(config, id+"/json", layers)
}

// configFromV1 makes a config of the json of the top layer, in the way of Docker
// 1.10's migration, so that an image that Docker 1.8.3 or later made gets the same
// id here as there. (Docker writes the json of older ones anew, as its structures
// are at the time, so their ids differ from version to version.)
func configFromV1(top []byte, diffIDs []digest.Digest, history []historyEntry) ([]byte, error) {
	var c map[string]json.RawMessage
	if err := json.Unmarshal(top, &c); err != nil {
		return nil, err
	}
	for _, key := range []string{"id", "parent", "Size", "parent_id", "layer_id", "throwaway"} {
		delete(c, key)
	}
	var err error
	if c["rootfs"], err = json.Marshal(rootFS{Type: "layers", DiffIDs: diffIDs}); err != nil {
		return nil, err
	}
	if c["history"], err = json.Marshal(history); err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

// diffIDs computes the digests of layers' uncompressed tars, once per file.
func (o *opener) diffIDs(ctx context.Context, layers []ArchiveLayer, id string) ([]digest.Digest, error) {
	ids := make([]digest.Digest, len(layers))
	for i, l := range layers {
		if d, ok := o.hashed[l.real]; ok {
			ids[i] = d
			continue
		}
		e := Event{Stage: StageHash, Image: id, Layer: i, Layers: len(layers), Total: l.Size}
		d, err := hashLayer(ctx, o.docs.members, l, func(n int64) {
			e.Done = n
			o.report(e)
		})
		if err != nil {
			return nil, err
		}
		e.DiffID, e.Done, e.Finished = d, l.Size, true
		o.report(e)
		o.hashed[l.real], ids[i] = d, d
	}
	return ids, nil
}
