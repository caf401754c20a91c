package graphdriver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"blockstore.dev/blockstore/snapshot"
)

// compare begins a comparison of a layer with one below it, or with nothing.
func (p *Plugin) compare(ctx context.Context, q request, instant bool) (*snapshot.Comparison, error) {
	if err := checkID(q.ID); err != nil {
		return nil, err
	}
	if q.Parent != "" {
		if err := checkID(q.Parent); err != nil {
			return nil, fmt.Errorf("parent: %w", err)
		}
	}
	below, err := p.below(ctx, q)
	if err != nil {
		return nil, err
	}
	return p.store.Compare(ctx, snapshot.CompareRequest{Name: Name(q.ID), Below: below, Instant: instant})
}

func (p *Plugin) changes(ctx context.Context, q request) (_ any, err error) {
	c, err := p.compare(ctx, q, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	all, err := c.Changes(ctx)
	if err != nil {
		return nil, err
	}
	list := changeList{Changes: make([]change, len(all))}
	for i, c := range all {
		list.Changes[i] = change{Path: c.Path, Kind: int(c.Kind)} // layertar's numbers are Docker's
	}
	return list, nil
}

func (p *Plugin) diffSize(ctx context.Context, q request) (_ any, err error) {
	c, err := p.compare(ctx, q, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	n, err := c.Size(ctx)
	return sized{n}, err
}

// diff streams a layer tar. What can fail fails before the first byte: the trees
// are compared before anything is written. A container that is in use is read from a
// snapshot of it, so that its commit holds one instant.
func (p *Plugin) diff(w http.ResponseWriter, r *http.Request) (err error) {
	q, err := readRequest(r)
	if err != nil {
		return err
	}
	w.(*answer).id = q.ID
	ctx := r.Context() // ends when the reader hangs up
	st, _ := p.told()
	c, err := p.compare(ctx, q, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	w.Header().Set("Content-Type", "application/x-tar")
	_, err = c.WriteTar(ctx, w, snapshot.TarOptions{Owners: st.toContainerMap()})
	return err
}

// applyDiff unpacks a layer tar, after which the layer is immutable.
func (p *Plugin) applyDiff(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	id, parent := query.Get("id"), query.Get("parent")
	w.(*answer).id = id
	// dockerd sends all of the body before it listens to the answer. It may have ended in an error.
	defer func() { _, _ = io.Copy(io.Discard, r.Body) }()
	if err := checkID(id); err != nil {
		return err
	}
	ctx := r.Context()
	in, err := p.store.Stat(ctx, Name(id))
	if err != nil {
		return err
	}
	if parent != "" && in.Parent != Name(parent) {
		return fmt.Errorf("layer %q stands on %q, not on %q: %w", id, in.Parent, parent, snapshot.ErrInvalid)
	}
	p.fresh.used(id)
	st, _ := p.told()
	applied, err := p.store.Fill(ctx, Name(id), snapshot.FillRequest{Tar: r.Body, Owners: st.toHostMap()})
	if err != nil {
		return err
	}
	writeAnswer(w, sized{applied.Size})
	return nil
}
