package snapshot

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/opencontainers/go-digest"
)

// minPrefix is the shortest beginning of an image id that names it.
const minPrefix = 4

// Images describes all images, newest first.
func (s *Store) Images(context.Context) ([]Image, error) {
	var all []Image
	err := s.cat.view(func(t *tx) error {
		return t.each(bucketImages, "", func(k string, _ []byte) error {
			im, err := t.image(digest.Digest(k))
			all = append(all, im)
			return err
		})
	})
	sort.SliceStable(all, func(i, j int) bool { return all[i].Created.After(all[j].Created) })
	return all, err
}

// Image finds an image by name, by id, or by an unambiguous beginning of its id
// of at least four hex digits, with or without "sha256:".
func (s *Store) Image(_ context.Context, ref string) (Image, error) {
	var im Image
	err := s.cat.view(func(t *tx) error {
		id, err := t.resolve(ref)
		if err != nil {
			return err
		}
		im, err = t.image(id)
		return err
	})
	return im, err
}

// resolve turns what people type into an image id.
func (t *tx) resolve(ref string) (digest.Digest, error) {
	if id := t.t.Bucket(bucketRefs).Get([]byte(ref)); id != nil {
		return digest.Digest(id), nil
	}
	if hex := strings.TrimPrefix(ref, "sha256:"); len(hex) >= minPrefix && isHex(hex) {
		var found []digest.Digest
		err := t.each(bucketImages, "sha256:"+hex, func(k string, _ []byte) error {
			found = append(found, digest.Digest(k))
			return nil
		})
		if err != nil {
			return "", err
		}
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return "", fmt.Errorf("image id %q is the beginning of %d images; give more digits: %w", ref, len(found), ErrInvalid)
		}
	}
	return "", fmt.Errorf("image %q: %w", ref, ErrNotFound)
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// Tag gives an image a name, taking it from another image if need be.
func (s *Store) Tag(_ context.Context, id digest.Digest, ref string) error {
	if err := checkName(ref); err != nil {
		return err
	}
	return s.commit(func(t *tx) error {
		var r imageRecord
		if ok, err := t.get(bucketImages, string(id), &r); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("image %s: %w", id, ErrNotFound)
		}
		return t.set(bucketRefs, ref, []byte(id))
	})
}

// RemoveImage takes the name ref from its image, or, if ref is an id, removes
// the image with all its names. An image that lost its last name goes, and with
// it the layers that nothing else needs. One that containers were made from is
// ErrBusy unless forced: then its names go and its layers stay until the
// containers are gone and GC has run. An id with several names needs force.
// It returns the names and then the image and layers that went. A layer that is
// being read, or loaded upon, at this moment stays for GC.
func (s *Store) RemoveImage(ctx context.Context, ref string, force bool) (untagged, deleted []string, err error) {
	var volumes []VolumeID
	free := claims{locks: &s.names}
	defer free.release()
	err = s.commit(func(t *tx) error {
		untagged, deleted, volumes = nil, nil, nil
		id, err := t.resolve(ref)
		if err != nil {
			return err
		}
		im, err := t.image(id)
		if err != nil {
			return err
		}
		untagged = []string{ref}
		if t.t.Bucket(bucketRefs).Get([]byte(ref)) == nil { // by id
			if len(im.Refs) > 1 && !force {
				return fmt.Errorf("image %s has %d names (%s); remove them, or force: %w", id, len(im.Refs), strings.Join(im.Refs, ", "), ErrBusy)
			}
			untagged = im.Refs
		}
		if len(im.Refs) == len(untagged) && !force {
			if err := t.unused(im); err != nil {
				return err
			}
		}
		for _, name := range untagged {
			if err := t.remove(bucketRefs, name); err != nil {
				return err
			}
		}
		if len(im.Refs) > len(untagged) {
			return nil
		}
		deleted, volumes, err = t.dropImage(im, free.claim)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	s.collect(context.WithoutCancel(ctx), volumes)
	return untagged, deleted, nil
}

// unused refuses an image that containers were made from.
func (t *tx) unused(im Image) error {
	return t.eachSnapshot(func(in Info) error {
		if in.Image == im.ID && in.Kind != KindLayer {
			return fmt.Errorf("image %s is used by %s %q: %w", im.ID, in.Kind, in.Name, ErrBusy)
		}
		return nil
	})
}

// dropImage removes the record and the layers that nothing else needs.
func (t *tx) dropImage(im Image, free func(string) bool) (deleted []string, volumes []VolumeID, err error) {
	if err := t.remove(bucketImages, string(im.ID)); err != nil {
		return nil, nil, err
	}
	deleted = []string{im.ID.String()}
	if len(im.Layers) == 0 {
		return deleted, nil, nil
	}
	top := im.Layers[len(im.Layers)-1]
	if err := t.remove(bucketTops, top+"\x00"+string(im.ID)); err != nil {
		return nil, nil, err
	}
	layers, volumes, err := t.dropUnneeded(top, free)
	return append(deleted, layers...), volumes, err
}

// dropUnneeded removes a layer that nothing needs, and then those below it, as
// far as they are free.
func (t *tx) dropUnneeded(name string, free func(string) bool) (layers []string, volumes []VolumeID, err error) {
	for name != "" && free(name) {
		in, err := t.dropSnapshot(name)
		if errors.Is(err, ErrBusy) || errors.Is(err, ErrNotFound) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		layers = append(layers, name)
		volumes = append(volumes, in.Volume.ID)
		name = in.Parent
	}
	return layers, volumes, nil
}

// GC removes layers that no image, container, view or other layer needs, and
// volumes whose removal was committed and not done. It returns the layers'
// names. Layers with names that are not digests belong to a door and stay, and so
// do those that somebody is reading or loading upon.
func (s *Store) GC(ctx context.Context) ([]string, error) {
	var removed []string
	var volumes []VolumeID
	free := claims{locks: &s.names}
	defer free.release()
	err := s.commit(func(t *tx) error {
		removed, volumes = nil, t.garbage()
		var leaves []string
		err := t.eachSnapshot(func(in Info) error {
			_, notDigest := digest.Parse(in.Name)
			if in.Kind == KindLayer && notDigest == nil && t.firstChild(in.Name) == "" && !t.any(bucketTops, in.Name+"\x00") {
				leaves = append(leaves, in.Name)
			}
			return nil
		})
		for _, name := range leaves {
			layers, ids, dropErr := t.dropUnneeded(name, free.claim)
			err = errors.Join(err, dropErr)
			removed = append(removed, layers...)
			volumes = append(volumes, ids...)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.collect(ctx, volumes)
	return removed, s.flushSwept(ctx)
}
