package graphdriver

import "sync"

// refs counts, for each layer, how many Gets were not followed by a Put. A layer
// that nobody counted yet begins with one if it is mounted: somebody got it from a
// process before this one, or before dockerd was started anew.
type refs struct {
	// shown says whether a layer is mounted.
	shown func(id string) bool

	mu  sync.Mutex
	ids map[string]*ref
}

// ref is a layer's count. It is locked over mounting and unmounting.
type ref struct {
	mu      sync.Mutex
	waiting int // who holds or waits for mu; guarded by refs.mu
	seeded  bool
	count   int
	stuck   bool // it should have been unmounted, and was busy
}

// lock returns a layer's count, locked.
func (r *refs) lock(id string) (*ref, func()) {
	r.mu.Lock()
	if r.ids == nil {
		r.ids = map[string]*ref{}
	}
	x := r.ids[id]
	if x == nil {
		x = &ref{}
		r.ids[id] = x
	}
	x.waiting++
	r.mu.Unlock()
	x.mu.Lock()
	if !x.seeded {
		x.seeded = true
		if r.shown(id) {
			x.count = 1
		}
	}
	return x, func() {
		// Who locks it next finds it left: idle passes over what somebody still holds.
		defer x.mu.Unlock()
		r.mu.Lock()
		defer r.mu.Unlock()
		if x.waiting--; x.waiting == 0 && x.count == 0 && !x.stuck {
			delete(r.ids, id)
		}
	}
}

// forget has all counts begin anew.
func (r *refs) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, x := range r.ids {
		if x.waiting == 0 {
			delete(r.ids, id)
		}
	}
}

// idle lists the layers that should be unmounted.
func (r *refs) idle() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for id, x := range r.ids {
		if x.waiting == 0 && x.stuck {
			ids = append(ids, id)
		}
	}
	return ids
}
