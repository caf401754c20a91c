package graphdriver

import (
	"context"
	"errors"

	"blockstore.dev/blockstore/snapshot"
)

// get mounts a layer, or counts that somebody more uses its mount. The directory
// stays the same for the layer's whole life.
func (p *Plugin) get(ctx context.Context, q request) (any, error) {
	if err := checkID(q.ID); err != nil {
		return nil, err
	}
	p.fresh.used(q.ID)
	if _, ok, err := p.written(q.ID).below(); ok || err != nil {
		return directory{p.written(q.ID).tree()}, err
	}
	ref, unlock := p.refs.lock(q.ID)
	defer unlock()
	dir, err := p.store.MountWith(ctx, Name(q.ID), snapshot.MountOptions{Label: q.MountLabel})
	if err != nil {
		return nil, err
	}
	ref.count++
	ref.stuck = false
	return directory{dir}, nil
}

// put ends one get, and the last one unmounts. A layer that is gone, not mounted
// or put before is no error: dockerd puts once too often rather than too seldom.
// It has no use for an error either, so it does not wait for the unmounting; the next
// call that is about the layer, or makes one on it, does.
func (p *Plugin) put(ctx context.Context, q request) (any, error) {
	if err := checkID(q.ID); err != nil {
		return nil, err
	}
	if _, ok, err := p.written(q.ID).below(); ok || err != nil {
		return empty{}, err
	}
	ref, unlock := p.refs.lock(q.ID)
	if ref.count > 0 {
		ref.count--
	}
	if ref.count > 0 {
		unlock()
		return empty{}, nil
	}
	p.calls.Go(func() {
		defer unlock()
		p.hide(context.WithoutCancel(ctx), q.ID, ref)
	})
	return empty{}, nil
}

// hide unmounts a layer that nobody needs. Where that fails, as where somebody on the
// host has a file open in it, it stays and is tried again later.
func (p *Plugin) hide(ctx context.Context, id string, ref *ref) {
	err := p.store.Unmount(ctx, Name(id))
	ref.stuck = err != nil && !errors.Is(err, snapshot.ErrNotFound)
	if ref.stuck {
		p.log.Warn("a layer that Docker needs no longer stays mounted, and is tried again", "id", id, "error", err)
	}
}

func (p *Plugin) shown(id string) bool {
	in, err := p.store.Stat(context.Background(), Name(id))
	return err == nil && in.Mounted != ""
}

// cleanup is the end of a dockerd's run: nothing of Docker's needs to be mounted.
// The layers stay.
func (p *Plugin) cleanup(ctx context.Context, _ request) (any, error) {
	layers, err := p.layers(ctx)
	if err != nil {
		return nil, err
	}
	for _, in := range layers {
		if in.Mounted == "" {
			continue
		}
		id, _ := ID(in.Name)
		ref, unlock := p.refs.lock(id)
		ref.count = 0
		p.hide(ctx, id, ref)
		unlock()
	}
	return empty{}, nil
}

// layers are all of Docker's snapshots.
func (p *Plugin) layers(ctx context.Context) ([]snapshot.Info, error) {
	all, err := p.store.List(ctx)
	if err != nil {
		return nil, err
	}
	var mine []snapshot.Info
	for _, in := range all {
		if _, ok := ID(in.Name); ok {
			mine = append(mine, in)
		}
	}
	return mine, nil
}
