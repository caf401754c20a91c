package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// header is the store's own record: what it is and on what it stands.
type header struct {
	// Version of the catalog's format.
	Version int    `json:"version"`
	StoreID string `json:"storeID"`
	Driver  string `json:"driver"`
	Chosen  string `json:"chosen,omitempty"`
	// Config is the driver's, see Kind.Init. It is nil while init is under way:
	// a store whose init was cut short is known by that.
	Config   json.RawMessage `json:"config,omitempty"`
	BaseSize int64           `json:"baseSize"`
	Created  time.Time       `json:"created"`
}

const (
	catalogVersion = 2
	// versionJournal is the first that has a journal, and a program that does not know it
	// must not have.
	versionJournal = 2
)

// idRecord is the reservation of volume ids, and with it the intent record of
// all volumes that are being made: an id in [PurgeFrom, End) that the catalog
// does not know is unfinished work of a process that died.
type idRecord struct {
	// PurgeFrom is the lowest id that may be unfinished: the first of the block
	// that was reserved last, or an older one that was in work at that moment.
	PurgeFrom VolumeID `json:"purgeFrom"`
	End       VolumeID `json:"end"`
	// Epoch counts reservations; see Epoched.
	Epoch uint64 `json:"epoch"`
	// Used is the highest id that a committed volume ever had, so that ids are not
	// handed out twice even after their volumes went.
	Used VolumeID `json:"used"`
}

// imageRecord is an Image without its names, which have a bucket of their own.
type imageRecord struct {
	Config  []byte    `json:"config"`
	Layers  []string  `json:"layers"`
	Created time.Time `json:"created"`
}

func (t *tx) header() (header, error) {
	var h header
	_, err := t.get(bucketMeta, "header", &h)
	return h, err
}

func (t *tx) putHeader(h header) error { return t.put(bucketMeta, "header", h) }

func (t *tx) ids() (idRecord, error) {
	var r idRecord
	_, err := t.get(bucketMeta, "ids", &r)
	return r, err
}

func (t *tx) putIDs(r idRecord) error { return t.put(bucketMeta, "ids", r) }

// snapshot returns ErrNotFound for a name that is not there.
func (t *tx) snapshot(name string) (Info, error) {
	var in Info
	ok, err := t.get(bucketSnapshots, name, &in)
	if err == nil && !ok {
		err = fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	return in, err
}

// addSnapshot enters a new snapshot; its parent must be a layer.
func (t *tx) addSnapshot(in Info) error {
	var old Info
	if ok, err := t.get(bucketSnapshots, in.Name, &old); err != nil {
		return err
	} else if ok {
		return fmt.Errorf("%s %q: %w", old.Kind, in.Name, ErrExists)
	}
	if in.Parent != "" {
		p, err := t.snapshot(in.Parent)
		if err != nil {
			return fmt.Errorf("parent of %q: %w", in.Name, err)
		}
		if p.Kind != KindLayer {
			return fmt.Errorf("parent of %q: %q is a %s, not a layer: %w", in.Name, in.Parent, p.Kind, ErrInvalid)
		}
		if err := t.set(bucketChildren, in.Parent+"\x00"+in.Name, nil); err != nil {
			return err
		}
	}
	if in.Kind != KindView {
		if err := t.set(bucketVolumes, volumeKey(in.Volume.ID), []byte(in.Name)); err != nil {
			return err
		}
		r, err := t.ids()
		if err != nil {
			return err
		}
		if in.Volume.ID > r.Used {
			r.Used = in.Volume.ID
			if err := t.putIDs(r); err != nil {
				return err
			}
		}
	}
	return t.put(bucketSnapshots, in.Name, in)
}

// rename gives a container another name. Its record is for the caller to put.
func (t *tx) rename(name, to string) error {
	in, err := t.snapshot(name)
	if err != nil || name == to {
		return err
	}
	if _, err := t.snapshot(to); !errors.Is(err, ErrNotFound) {
		return errors.Join(err, fmt.Errorf("%q: %w", to, ErrExists))
	}
	if in.Parent != "" {
		if err := t.remove(bucketChildren, in.Parent+"\x00"+name); err != nil {
			return err
		}
		if err := t.set(bucketChildren, in.Parent+"\x00"+to, nil); err != nil {
			return err
		}
	}
	if err := t.set(bucketVolumes, volumeKey(in.Volume.ID), []byte(to)); err != nil {
		return err
	}
	return t.remove(bucketSnapshots, name)
}

// dropSnapshot takes a snapshot out and marks its volume as garbage. It refuses
// one that others need.
func (t *tx) dropSnapshot(name string) (Info, error) {
	in, err := t.snapshot(name)
	if err != nil {
		return in, err
	}
	if err := t.removable(in); err != nil {
		return in, err
	}
	return in, t.drop(in)
}

// drop takes out a snapshot that is removable.
func (t *tx) drop(in Info) error {
	name := in.Name
	if in.Parent != "" {
		if err := t.remove(bucketChildren, in.Parent+"\x00"+name); err != nil {
			return err
		}
	}
	if in.Kind != KindView {
		key := volumeKey(in.Volume.ID)
		if err := t.remove(bucketVolumes, key); err != nil {
			return err
		}
		if failpoint.Leave("garbage.record") {
			return t.remove(bucketSnapshots, name)
		}
		if err := t.set(bucketGarbage, key, nil); err != nil {
			return err
		}
	}
	return t.remove(bucketSnapshots, name)
}

// removable says who needs a snapshot.
func (t *tx) removable(in Info) error {
	if child := t.firstChild(in.Name); child != "" {
		return fmt.Errorf("cannot remove %s %q: %q stands on it: %w", in.Kind, in.Name, child, ErrBusy)
	}
	if t.any(bucketTops, in.Name+"\x00") {
		return fmt.Errorf("cannot remove layer %q: an image needs it: %w", in.Name, ErrBusy)
	}
	return nil
}

func (t *tx) firstChild(name string) string {
	prefix := name + "\x00"
	child := ""
	_ = t.each(bucketChildren, prefix, func(k string, _ []byte) error {
		child = k[len(prefix):]
		return errStop
	})
	return child
}

func (t *tx) eachSnapshot(fn func(Info) error) error {
	return t.each(bucketSnapshots, "", func(k string, v []byte) error { return decoded(k, v, fn) })
}

func decoded(name string, record []byte, fn func(Info) error) error {
	var in Info
	if err := json.Unmarshal(record, &in); err != nil {
		return fmt.Errorf("catalog record of %q: %w: %w", name, ErrCorrupt, err)
	}
	return fn(in)
}

// eachContainer is eachSnapshot of the containers. It does not decode layers, of which there may be thousands: what it
// looks for is in the record of each container, and in no text of another, where quotes have backslashes before them.
func (t *tx) eachContainer(fn func(Info) error) error {
	mark := fmt.Appendf(nil, `"kind":%q`, KindContainer)
	return t.each(bucketSnapshots, "", func(k string, v []byte) error {
		if !bytes.Contains(v, mark) {
			return nil
		}
		return decoded(k, v, func(in Info) error {
			if in.Kind != KindContainer { // it has a label of that name
				return nil
			}
			return fn(in)
		})
	})
}

// volumeName is the snapshot that owns a volume, "" if none does.
func (t *tx) volumeName(id VolumeID) string {
	return string(t.t.Bucket(bucketVolumes).Get([]byte(volumeKey(id))))
}

func (t *tx) garbage() []VolumeID {
	var ids []VolumeID
	_ = t.each(bucketGarbage, "", func(k string, _ []byte) error {
		ids = append(ids, volumeFromKey(k))
		return nil
	})
	return ids
}

func (t *tx) clearGarbage(ids []VolumeID) error {
	for _, id := range ids {
		if err := t.remove(bucketGarbage, volumeKey(id)); err != nil {
			return err
		}
	}
	return nil
}

// image reads a record with its names.
func (t *tx) image(id digest.Digest) (Image, error) {
	var r imageRecord
	ok, err := t.get(bucketImages, string(id), &r)
	if err != nil {
		return Image{}, err
	}
	if !ok {
		return Image{}, fmt.Errorf("image %s: %w", id, ErrNotFound)
	}
	im := Image{ID: id, Config: r.Config, Layers: r.Layers, Created: r.Created}
	err = t.each(bucketRefs, "", func(ref string, v []byte) error {
		if string(v) == string(id) {
			im.Refs = append(im.Refs, ref)
		}
		return nil
	})
	return im, err
}

// putImage enters an image, or leaves the one that is there, and gives it names.
func (t *tx) putImage(im Image) error {
	var old imageRecord
	ok, err := t.get(bucketImages, string(im.ID), &old)
	if err != nil {
		return err
	}
	if !ok {
		for _, l := range im.Layers {
			if _, err := t.snapshot(l); err != nil {
				return fmt.Errorf("layer of image %s: %w", im.ID, err)
			}
		}
		if n := len(im.Layers); n > 0 {
			if err := t.set(bucketTops, im.Layers[n-1]+"\x00"+string(im.ID), nil); err != nil {
				return err
			}
		}
		if err := t.put(bucketImages, string(im.ID), imageRecord{im.Config, im.Layers, im.Created}); err != nil {
			return err
		}
	}
	for _, ref := range im.Refs {
		if err := t.set(bucketRefs, ref, []byte(im.ID)); err != nil {
			return err
		}
	}
	return nil
}
