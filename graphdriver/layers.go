package graphdriver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"blockstore.dev/blockstore/internal/size"
	"blockstore.dev/blockstore/snapshot"
)

// labelHome is the label with the home that a layer was made for.
const labelHome = "docker.home"

// fresh remembers the layers that were made and not used since. When the answer to
// a creation is lost, dockerd asks for it again.
type fresh struct {
	mu  sync.Mutex
	ids map[string]madeAs
}

// madeAs is what a layer was made as.
type madeAs struct {
	parent string
	size   int64
}

func (f *fresh) made(id string, as madeAs) {
	f.mu.Lock()
	defer f.mu.Unlock()
	const most = 4096 // what was forgotten is refused as existing
	if f.ids == nil || len(f.ids) >= most {
		f.ids = map[string]madeAs{}
	}
	f.ids[id] = as
}

func (f *fresh) used(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.ids, id)
}

func (f *fresh) is(id string, as madeAs) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	made, ok := f.ids[id]
	return ok && made == as
}

// create makes a layer or a container; Docker writes into both. A parent that was
// written to until now becomes immutable.
func (p *Plugin) create(ctx context.Context, q request) (any, error) {
	if err := checkID(q.ID); err != nil {
		return nil, err
	}
	if q.Parent != "" {
		if err := checkID(q.Parent); err != nil {
			return nil, fmt.Errorf("parent: %w", err)
		}
	}
	st, rules := p.told()
	base := q // what the layer's limit follows from
	layer, onInit, err := p.written(q.Parent).below()
	if err != nil {
		return nil, err
	}
	if onInit {
		base.Parent = layer
	} else if isInit(q.Parent) { // it may be asked for again
		if in, err := p.store.Stat(ctx, Name(q.ID)); err == nil {
			base.Parent, _ = ID(in.Parent)
		}
	}
	limit, err := p.limit(ctx, base, rules)
	if err != nil {
		return nil, err
	}
	as := madeAs{q.Parent, limit}
	if p.fresh.is(q.ID, as) {
		return empty{}, nil
	}
	if err := rules.room(ctx, p.store); err != nil {
		return nil, err
	}
	p.fresh.used(q.Parent)
	made := snapshot.CreateRequest{
		Parent: parentName(base.Parent), Size: limit, FreezeParent: true,
		Labels: map[string]string{labelHome: st.Home},
	}
	switch {
	case onInit:
		err = p.createContainer(ctx, q, layer, made)
	case isInit(q.ID) && q.Parent != "":
		err = p.createInit(ctx, q, made)
	case p.isAhead(q.ID): // its name may be discarded
		err = fmt.Errorf("container %q has an init layer and is asked for on %q: %w", q.ID, q.Parent, snapshot.ErrInvalid)
	default:
		p.settled(q.Parent)
		_, err = p.store.Create(ctx, Name(q.ID), made)
	}
	if err != nil {
		return nil, err
	}
	if err := p.giveRoot(ctx, q, st); err != nil {
		return nil, errors.Join(err, p.store.Discard(context.WithoutCancel(ctx), Name(q.ID)))
	}
	p.fresh.made(q.ID, as)
	return empty{}, nil
}

// settled waits until a layer is unmounted, if it was put just now.
func (p *Plugin) settled(id string) {
	if id != "" {
		_, unlock := p.refs.lock(id)
		unlock()
	}
}

// limit is what a new layer's tree may hold, 0 for the parent's or the store's.
func (p *Plugin) limit(ctx context.Context, q request, rules rules) (int64, error) {
	var asked int64
	for key, value := range q.StorageOpt {
		if !strings.EqualFold(key, "size") {
			return 0, fmt.Errorf("storage option %q: a container has only size: %w", key, snapshot.ErrInvalid)
		}
		var err error
		if asked, err = size.Parse(value); err != nil {
			return 0, fmt.Errorf("storage option size: %w: %w", snapshot.ErrInvalid, err)
		}
		if asked < rules.leastSize {
			return 0, fmt.Errorf("storage option size: %s is less than btrfs.min_space, %d bytes: %w", value, rules.leastSize, snapshot.ErrInvalid)
		}
	}
	if asked != 0 || rules.size == 0 {
		return asked, nil
	}
	if q.Parent == "" {
		return rules.size, nil
	}
	parent, err := p.store.Stat(ctx, Name(q.Parent))
	if err != nil {
		return 0, fmt.Errorf("parent: %w", err)
	}
	if parent.Volume.Size >= rules.size {
		return 0, nil
	}
	return rules.size, nil
}

// giveRoot gives a base layer's root directory to the root of the user namespace
// that containers run in.
func (p *Plugin) giveRoot(ctx context.Context, q request, st state) error {
	if q.Parent != "" || !st.mapped() {
		return nil
	}
	uid, gid, err := st.toHost(0, 0)
	if err != nil {
		return err
	}
	dir, release, err := p.store.Use(ctx, Name(q.ID))
	if err != nil {
		return err
	}
	return errors.Join(os.Chown(dir, uid, gid), release())
}

// remove removes a layer, mounted or not. One that is gone is removed already.
func (p *Plugin) remove(ctx context.Context, q request) (any, error) {
	if err := checkID(q.ID); err != nil {
		return nil, err
	}
	ref, unlock := p.refs.lock(q.ID)
	defer unlock()
	p.fresh.used(q.ID)
	if isInit(q.ID) {
		if err := p.forgetInit(ctx, q.ID); err != nil {
			return nil, err
		}
	}
	if err := p.discard(ctx, q.ID); err != nil && !errors.Is(err, snapshot.ErrNotFound) {
		return nil, err
	}
	ref.count, ref.stuck = 0, false
	return empty{}, nil
}

func (p *Plugin) exists(ctx context.Context, q request) (any, error) {
	if err := checkID(q.ID); err != nil {
		return nil, err
	}
	there, err := p.has(ctx, q.ID)
	if err != nil {
		return nil, err
	}
	return existence{there}, nil
}

// has says whether Docker made a layer and has not removed it.
func (p *Plugin) has(ctx context.Context, id string) (bool, error) {
	_, err := p.store.Stat(ctx, Name(id))
	if errors.Is(err, snapshot.ErrNotFound) {
		return p.hasInit(ctx, id), nil
	}
	return err == nil && !p.isAhead(id), err
}
