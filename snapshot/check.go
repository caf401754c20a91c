package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Driver is the store's driver, for what only some drivers can do: Grower,
// Trimmer.
func (s *Store) Driver() Driver { return s.driver }

// Root is the store's directory.
func (s *Store) Root() string { return s.root }

// Status describes the store and its backing store.
func (s *Store) Status(ctx context.Context) (StoreStatus, error) {
	h := s.header
	st := StoreStatus{
		StoreID: h.StoreID, Root: s.root, Driver: h.Driver, Chosen: h.Chosen,
		BaseSize: h.BaseSize, Created: h.Created,
	}
	err := s.cat.view(func(t *tx) error {
		st.Images = t.t.Bucket(bucketImages).Stats().KeyN
		return t.eachSnapshot(func(in Info) error {
			switch in.Kind {
			case KindLayer:
				st.Layers++
			case KindContainer:
				st.Containers++
			case KindView:
				st.Views++
			}
			return nil
		})
	})
	if err != nil {
		return st, err
	}
	st.Backing, err = s.driver.Status(ctx)
	return st, err
}

// Check compares the catalog with itself, with the kernel and, if asked, with
// the content of the layers. Findings are no error: the error says that Check
// itself could not be done.
func (s *Store) Check(ctx context.Context, o CheckOptions) (Report, error) {
	var r Report
	if o.Repair {
		if err := s.mendDerived(&r); err != nil {
			return r, err
		}
	}
	e := expectation{begun: s.ids.stand()} // before the catalog is read: what is done later is in there
	err := s.cat.view(func(t *tx) (err error) {
		e.known, err = t.check(&r)
		return err
	})
	if err != nil {
		return r, err
	}
	if err := s.checkKernel(ctx, e, o, &r); err != nil {
		return r, err
	}
	for _, in := range e.known {
		if in.Kind != KindLayer {
			continue
		}
		if err := s.checkLayer(ctx, in, o, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *Report) add(id VolumeID, mend, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{Volume: id, Text: fmt.Sprintf(format, args...), Mend: mend})
}

// check looks at the catalog alone and returns all snapshots.
func (t *tx) check(r *Report) ([]Info, error) {
	var all []Info
	byName := map[string]Info{}
	err := t.eachSnapshot(func(in Info) error {
		all = append(all, in)
		byName[in.Name] = in
		switch in.Kind {
		case KindLayer:
			r.Layers++
		case KindContainer:
			r.Containers++
		}
		if in.Kind != KindView {
			r.Volumes++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, in := range all {
		if in.Parent == "" {
			continue
		}
		if _, ok := byName[in.Parent]; !ok {
			r.add(in.Volume.ID, "remove it and load its image again", "%s %q stands on layer %q, which is gone", in.Kind, in.Name, in.Parent)
		}
	}
	err = t.each(bucketImages, "", func(id string, _ []byte) error {
		im, err := t.image(digest.Digest(id))
		if err != nil {
			return err
		}
		for _, l := range im.Layers {
			if _, ok := byName[l]; !ok {
				r.add(Base, "remove the image and load it again", "image %s needs layer %s, which is gone", id, l)
			}
		}
		if digest.FromBytes(im.Config) != im.ID {
			r.add(Base, "remove the image and load it again", "image %s: its configuration has another digest", id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, t.checkDerived(r)
}

// expectation is what may be in the kernel: what the catalog knows, and what was in work
// when it was read, which is volumes that are being made, and spares.
type expectation struct {
	known []Info
	begun idStand
}

// checkKernel compares the volumes that ought to exist with those that do.
func (s *Store) checkKernel(ctx context.Context, e expectation, o CheckOptions, r *Report) error {
	strangers, garbage, err := s.strangers(ctx)
	if err != nil {
		return err
	}
	expected := map[VolumeID]Info{}
	for _, in := range e.known {
		if in.Kind != KindView {
			expected[in.Volume.ID] = in
		}
	}
	findings, err := s.driver.Check(ctx, volumesOf(expected))
	if err != nil {
		return fmt.Errorf("checking the %s backing store: %w", s.header.Driver, err)
	}
	findings = slices.DeleteFunc(findings, func(f Finding) bool {
		return slices.Contains(garbage, f.Volume) || slices.Contains(strangers, f.Volume)
	})
	if findings, err = s.lasting(findings, e.begun, expected); err != nil {
		return err
	}
	for _, f := range findings {
		if name := expected[f.Volume].Name; name != "" {
			f.Text = fmt.Sprintf("%q: %s", name, f.Text)
		}
		r.Findings = append(r.Findings, f)
	}
	for _, id := range strangers {
		if err := s.mendStranger(id, o, r); err != nil {
			return err
		}
	}
	swept := s.swept.list()
	for _, id := range garbage {
		if slices.Contains(swept, id) {
			continue
		}
		if o.Repair && s.removeVolume(ctx, id) == nil {
			s.swept.add(id)
			r.Repaired = append(r.Repaired, fmt.Sprintf("removed volume %d, whose removal was pending", id))
			continue
		}
		r.Pending++
	}
	return s.flushSwept(ctx)
}

func volumesOf(known map[VolumeID]Info) []Volume {
	found := make([]Volume, 0, len(known))
	for _, id := range slices.Sorted(maps.Keys(known)) {
		found = append(found, known[id].Volume)
	}
	return found
}

// lasting leaves out what is said of volumes that others made, sealed or removed while the driver looked: what the catalog
// says of them is another thing now, or they were or are in work, or their number was given out meanwhile.
func (s *Store) lasting(findings []Finding, begun idStand, expected map[VolumeID]Info) ([]Finding, error) {
	if len(findings) == 0 {
		return nil, nil
	}
	ended := s.ids.stand() // before the catalog is read again, as at the beginning
	now := map[VolumeID]Volume{}
	if err := s.cat.view(func(t *tx) error {
		return t.eachSnapshot(func(in Info) error {
			if in.Kind != KindView {
				now[in.Volume.ID] = in.Volume
			}
			return nil
		})
	}); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(findings, func(f Finding) bool {
		id := f.Volume
		return begun.working[id] || ended.working[id] || id >= begun.next && id < ended.next || now[id] != expected[id].Volume
	}), nil
}

// strangers lists volumes in the kernel that the catalog cannot explain, and those whose removal is pending. They are
// never removed here: a volume of the store's is somebody's data. Others make and remove volumes meanwhile: what was there
// before the catalog was read is known to it, or in the block of ids that it has reserved, or gone afterwards.
func (s *Store) strangers(ctx context.Context) (strangers, garbage []VolumeID, err error) {
	before, err := s.driver.Volumes(ctx)
	canList := !errors.Is(err, ErrNotSupported)
	if canList && err != nil {
		return nil, nil, err
	}
	explained := map[VolumeID]bool{Base: true}
	var ids idRecord
	if err := s.cat.view(func(t *tx) (err error) {
		garbage = t.garbage()
		if ids, err = t.ids(); err != nil {
			return err
		}
		return t.eachSnapshot(func(in Info) error {
			explained[in.Volume.ID] = true
			return nil
		})
	}); err != nil || !canList {
		return nil, garbage, err
	}
	unknown := slices.DeleteFunc(slices.Clone(before), func(id VolumeID) bool {
		return explained[id] || slices.Contains(garbage, id) || id >= ids.PurgeFrom && id < ids.End
	})
	if len(unknown) == 0 {
		return nil, garbage, nil
	}
	after, err := s.driver.Volumes(ctx)
	return slices.DeleteFunc(unknown, func(id VolumeID) bool { return !slices.Contains(after, id) }), garbage, err
}
