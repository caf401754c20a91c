package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// What check --repair does. It destroys nothing: what nobody can explain becomes a container that people can look at, and
// what the catalog can derive from its other records it writes anew.

const mendRepair = "`check --repair`"

// foundName is the container that a volume becomes which the catalog does not know.
func foundName(id VolumeID) string { return fmt.Sprintf("found-%d", id) }

// adopt makes a container of a volume that nobody knows. What it stood on is not known, so that all of it counts as its
// own changes; its limit is the base's.
func (s *Store) adopt(id VolumeID) error {
	now := time.Now().UTC()
	in := Info{
		Name: foundName(id), Kind: KindContainer, Created: now, Updated: now,
		Volume: Volume{ID: id, Origin: Base, Size: s.header.BaseSize},
	}
	s.ids.pass(id)
	return s.commit(func(t *tx) error { return t.addSnapshot(in) })
}

// mendStranger reports or adopts a volume that the catalog does not know.
func (s *Store) mendStranger(id VolumeID, o CheckOptions, r *Report) error {
	if !o.Repair {
		r.add(id, mendRepair+" makes it the container "+foundName(id)+", to be looked at and removed", "volume %d exists and the catalog does not know it", id)
		return nil
	}
	if err := s.adopt(id); err != nil {
		return fmt.Errorf("making volume %d a container: %w", id, err)
	}
	r.repaired("made volume %d, which the catalog did not know, the container %q", id, foundName(id))
	return nil
}

func (r *Report) repaired(format string, args ...any) {
	r.Repaired = append(r.Repaired, fmt.Sprintf(format, args...))
}

// mendRecord reports a layer whose tar record is missing, or has the catalog say that it has none.
func (s *Store) mendRecord(in Info, o CheckOptions, r *Report) error {
	if !o.Repair {
		r.add(in.Volume.ID, "remove what uses the layer and load its image again; or "+mendRepair+", which gives up saving it",
			"layer %q: its tar record is missing; it can be used but not saved", in.Name)
		return nil
	}
	err := s.commit(func(t *tx) error {
		in, err := t.snapshot(in.Name)
		if err != nil {
			return err
		}
		in.NoTar = true
		return t.put(bucketSnapshots, in.Name, in)
	})
	if err == nil {
		r.repaired("layer %q has no tar record any more: it can be used, and not saved", in.Name)
	}
	return err
}

// derived are the records that follow from others: who owns a volume, what stands on what, which image has which layer
// on top, and names of images that there are.
func (t *tx) derived() (map[string]map[string][]byte, error) {
	want := map[string]map[string][]byte{"volumes": {}, "children": {}, "tops": {}, "refs": {}}
	err := t.eachSnapshot(func(in Info) error {
		if in.Kind != KindView {
			want["volumes"][volumeKey(in.Volume.ID)] = []byte(in.Name)
		}
		if in.Parent != "" {
			want["children"][in.Parent+"\x00"+in.Name] = nil
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var ids []string
	if err := t.each(bucketImages, "", func(id string, _ []byte) error { ids = append(ids, id); return nil }); err != nil {
		return nil, err
	}
	for _, id := range ids {
		var im imageRecord
		if _, err := t.get(bucketImages, id, &im); err != nil {
			return nil, err
		}
		if n := len(im.Layers); n > 0 {
			want["tops"][im.Layers[n-1]+"\x00"+id] = nil
		}
	}
	return want, t.each(bucketRefs, "", func(ref string, id []byte) error {
		if t.t.Bucket(bucketImages).Get(id) != nil {
			want["refs"][ref] = append([]byte{}, id...)
		}
		return nil
	})
}

func derivedBuckets() map[string][]byte {
	return map[string][]byte{"volumes": bucketVolumes, "children": bucketChildren, "tops": bucketTops, "refs": bucketRefs}
}

// differences counts the records of a bucket that are not as they ought to be.
func differences(b *bbolt.Bucket, want map[string][]byte) int {
	n, same := 0, 0
	_ = b.ForEach(func(k, v []byte) error {
		if w, ok := want[string(k)]; ok && string(w) == string(v) {
			same++
		} else {
			n++
		}
		return nil
	})
	return max(n, len(want)-same)
}

// checkDerived compares them with what they follow from.
func (t *tx) checkDerived(r *Report) error {
	want, err := t.derived()
	if err != nil {
		return err
	}
	for _, name := range []string{"volumes", "children", "tops", "refs"} {
		if n := differences(t.t.Bucket(derivedBuckets()[name]), want[name]); n > 0 {
			r.add(Base, mendRepair+" writes them anew", "the catalog's list of %s has %d wrong records", meaning(name), n)
		}
	}
	return nil
}

func meaning(bucket string) string {
	return map[string]string{
		"volumes": "who owns which volume", "children": "what stands on what", "tops": "images by their top layer", "refs": "names of images",
	}[bucket]
}

// mendDerived writes the wrong ones anew.
func (s *Store) mendDerived(r *Report) error {
	var found Report
	if err := s.cat.view(func(t *tx) error { return t.checkDerived(&found) }); err != nil || len(found.Findings) == 0 {
		return err
	}
	err := s.commit(func(t *tx) error {
		want, err := t.derived()
		if err != nil {
			return err
		}
		for name, bucket := range derivedBuckets() {
			if differences(t.t.Bucket(bucket), want[name]) == 0 {
				continue
			}
			if err := t.replace(bucket, want[name]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range found.Findings {
		r.repaired("wrote anew what was wrong: %s", f.Text)
	}
	return nil
}

// replace makes a bucket hold what is wanted and nothing else.
func (t *tx) replace(bucket []byte, want map[string][]byte) error {
	var have []string
	if err := t.each(bucket, "", func(k string, _ []byte) error { have = append(have, k); return nil }); err != nil {
		return err
	}
	for _, k := range have {
		if err := t.remove(bucket, k); err != nil {
			return err
		}
	}
	for k, v := range want {
		if err := t.set(bucket, k, v); err != nil {
			return err
		}
	}
	return nil
}

// checkLayer looks at what the store keeps beside a layer's volume, and at its
// content if asked. What was removed meanwhile it says nothing of.
func (s *Store) checkLayer(ctx context.Context, in Info, o CheckOptions, r *Report) error {
	if in.NoTar {
		return nil
	}
	if _, err := os.Stat(s.tarPath(in.Volume.ID)); err != nil {
		if gone, err := s.goneMeanwhile(in); gone || err != nil {
			return err
		}
		return s.mendRecord(in, o, r)
	}
	if !o.Content {
		return nil
	}
	if o.Progress != nil {
		o.Progress(in.Name)
	}
	err := s.WriteLayer(ctx, in.Name, io.Discard)
	if err == nil {
		return nil
	}
	if gone, err := s.goneMeanwhile(in); gone || err != nil {
		return err
	}
	if errors.Is(err, ErrCorrupt) {
		r.add(in.Volume.ID, "remove what uses the layer and load its image again", "%s", strings.TrimPrefix(err.Error(), "layer "))
		return nil
	}
	return err
}

// goneMeanwhile says that the catalog knows a snapshot no more, or another by its name.
func (s *Store) goneMeanwhile(in Info) (gone bool, err error) {
	err = s.cat.view(func(t *tx) error {
		now, err := t.snapshot(in.Name)
		gone = errors.Is(err, ErrNotFound) || err == nil && now.Volume.ID != in.Volume.ID
		if gone {
			return nil
		}
		return err
	})
	return gone, err
}
