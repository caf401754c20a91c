package snapshot

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// Bounds of the spares.
const (
	sparesEach  = 8   // made of one origin
	sparesKinds = 8   // origins that spares are made of, the last used ones, and as many that are not used often
	sparesUses  = 2   // creations after which an origin is one of them: a pull makes one on each layer
	sparesMost  = 32  // in total, beside one of each that has no other
	sparesIdle  = 100 // creations without one of an origin, after which its spares make room for those of another
)

// sparesPause is how long nothing was created when the spares are made up to their full
// number: their making is a commit of the file system's, for which creations wait.
const sparesPause = 250 * time.Millisecond

// spares are volumes that were made before anybody asked for them: snapshots of the
// layers that containers were made of lately. A creation that takes one needs no
// snapshot, which on btrfs is a commit of the file system's. They are made where none is
// left, and in a pause of the creations; and one with each layer that is committed, where
// the driver makes both in one commit. What a driver can do of their activation is done in a
// pause too.
//
// They have reserved ids that count as in work and no record in the catalog. So a
// process that dies leaves them to the next open as unfinished work, Check knows them,
// and nothing else of the store sees them.
type spares struct {
	store *Store

	mu     sync.Mutex
	on     bool
	kinds  []*spareKind // last used first
	pause  *time.Timer  // ends in refill; nil before the first creation
	makers sync.WaitGroup

	taken, missed uint64 // creations that found one, and that did not
}

// spareKind are the spares that are made in one way.
type spareKind struct {
	o     CreateOptions
	uses  int
	last  uint64 // creations of all kinds before its last use
	ready []spare
	// making is open while some are made of the origin, nil when none are.
	making  chan struct{}
	dropped bool // what is being made is not wanted any more
}

// spare is one of them.
type spare struct {
	id VolumeID
	// settled is closed when its activation has been prepared, nil before that has begun.
	settled chan struct{}
}

// KeepSpares has the store keep a few snapshots ready of the layers that containers
// are made of again and again, until Close. It is for processes that work for many: the
// spares are made in the background, after a creation.
func (s *Store) KeepSpares() {
	s.spares.mu.Lock()
	defer s.spares.mu.Unlock()
	s.spares.on = true
}

// kept says whether spares are kept.
func (p *spares) kept() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.on
}

// take gives a volume that is what the driver's Create would make, if one is ready. The
// origin is sealed, and stays while its caller runs.
func (p *spares) take(o CreateOptions) (VolumeID, bool) {
	s, ok := p.pick(o)
	s.settle()
	return s.id, ok
}

// settle waits until nobody works on it any more.
func (s spare) settle() {
	if s.settled != nil {
		<-s.settled
	}
}

func (s spare) prepared() bool {
	select {
	case <-s.settled:
		return true
	default: // settled is nil, or open
		return false
	}
}

func (p *spares) pick(o CreateOptions) (s spare, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.on {
		return s, false
	}
	k := p.kind(o)
	k.uses++
	k.last = p.taken + p.missed
	p.trim()
	if len(k.ready) > 0 {
		s, ok = k.ready[0], true
		k.ready = k.ready[1:]
		p.taken++
	} else {
		p.missed++
	}
	if len(k.ready) == 0 {
		p.makeRoom(k)
		p.start(k, false)
	}
	if p.pause == nil {
		p.pause = time.AfterFunc(sparesPause, p.refill)
	} else {
		p.pause.Reset(sparesPause)
	}
	return s, ok
}

// start has a kind made up to its full number, if it is used often enough.
func (p *spares) start(k *spareKind, inPause bool) {
	if !p.on || !k.often() || k.making != nil {
		return
	}
	n := min(failpoint.Most(sparesEach)-len(k.ready), sparesMost-p.count())
	if len(k.ready) == 0 { // where others have all, it goes from one to the next
		n = max(n, 1)
	}
	if n > 0 {
		k.making = make(chan struct{})
		p.makers.Go(func() { p.make(k, n, inPause) })
	}
}

// refill makes all kinds up in a pause of the creations, and prepares what there is.
func (p *spares) refill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.kinds {
		p.start(k, true)
		p.prepare(k)
	}
}

// prepare has of the activation of a kind's spares done what can be done ahead. What fails is
// done when the volume is used, and tells of itself then.
func (p *spares) prepare(k *spareKind) {
	d, ok := p.store.driver.(Readier)
	if !ok || !p.on {
		return
	}
	size, err := k.o.Origin.LimitFor(k.o.Size)
	if err != nil {
		return
	}
	for i, s := range k.ready {
		if s.settled != nil {
			continue
		}
		settled := make(chan struct{})
		k.ready[i].settled = settled
		p.makers.Go(func() {
			defer close(settled)
			_ = d.Ready(context.Background(), Volume{ID: s.id, Origin: k.o.Origin.ID, Size: size})
		})
	}
}

// give takes a spare in that was made by the way, of an origin that its caller has locked.
// One is enough: there are no more until the origin is used often.
func (p *spares) give(o CreateOptions, id VolumeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on {
		k := p.kind(o)
		k.last = p.taken + p.missed
		p.trim()
		if len(k.ready) == 0 || p.count() < sparesMost {
			k.ready = append(k.ready, spare{id: id})
			return
		}
	}
	p.makers.Go(func() { _ = p.store.abandon(context.Background(), []VolumeID{id}) }) // what fails goes at the next open
}

// kind finds the kind of spares that a creation needs and puts it in front.
func (p *spares) kind(o CreateOptions) *spareKind {
	at := slices.IndexFunc(p.kinds, func(k *spareKind) bool { return k.o == o })
	k := &spareKind{o: o}
	if at >= 0 {
		k = p.kinds[at]
		p.kinds = slices.Delete(p.kinds, at, at+1)
	}
	p.kinds = slices.Insert(p.kinds, 0, k)
	return k
}

// often says whether a kind is used often enough to have spares made of it.
func (k *spareKind) often() bool { return k.uses >= sparesUses }

// trim lets the kind go that was used the longest time ago where there are too many, but the one in front. Those that are used often are
// counted apart from the others: a pull uses each of its layers once, and costs nobody's image its spares.
func (p *spares) trim() {
	for _, often := range []bool{true, false} {
		n, oldest := 0, 0
		for i, k := range p.kinds {
			if k.often() != often {
				continue
			}
			n++
			if k.making == nil {
				oldest = i
			}
		}
		if n > sparesKinds && oldest > 0 {
			p.dismiss(oldest)
		}
	}
}

// makeRoom lets those go that nobody has used for a while, the oldest first, until the kind in front, k, can have spares.
func (p *spares) makeRoom(k *spareKind) {
	if !k.often() || k.making != nil {
		return
	}
	for i := len(p.kinds) - 1; i > 0 && p.count() >= sparesMost; i-- {
		if old := p.kinds[i]; old.making == nil && k.last-old.last > sparesIdle {
			p.dismiss(i)
		}
	}
}

// dismiss forgets a kind and removes its spares in the background.
func (p *spares) dismiss(at int) {
	ready := p.kinds[at].ready
	p.kinds = slices.Delete(p.kinds, at, at+1)
	p.makers.Go(func() { _ = p.abandon(context.Background(), ready) }) // what fails goes at the next open
}

// count is how many spares there are or will be.
func (p *spares) count() int {
	n := 0
	for _, k := range p.kinds {
		n += len(k.ready)
		if k.making != nil {
			n += sparesEach
		}
	}
	return n
}

// make makes n spares at once, so that they share what the driver commits. A kind that
// cannot be made is forgotten until it is used as often again.
func (p *spares) make(k *spareKind, n int, inPause bool) {
	ctx := context.Background()
	ids, err := p.store.ids.take(ctx, n)
	errs := make([]error, len(ids))
	var all sync.WaitGroup
	for i, id := range ids {
		all.Go(func() { errs[i] = p.store.driver.Create(ctx, id, k.o) })
	}
	all.Wait()
	failpoint.Hit("spares.made")
	err = errors.Join(append(errs, err)...)

	p.mu.Lock()
	unwanted := ids
	if err == nil && !k.dropped {
		for _, id := range ids {
			k.ready = append(k.ready, spare{id: id})
		}
		unwanted = nil
		if inPause {
			p.prepare(k)
		}
	}
	if err != nil {
		k.uses = 0
	}
	done := k.making
	k.making = nil
	p.mu.Unlock()
	_ = p.store.abandon(ctx, unwanted)
	close(done)
}

// drop removes the spares of an origin, which is about to be removed itself.
func (p *spares) drop(ctx context.Context, origin VolumeID) error {
	return p.release(ctx, func(k *spareKind) bool { return k.o.Origin.ID == origin })
}

// clear removes all spares, and says whether there were any.
func (p *spares) clear(ctx context.Context) (bool, error) {
	any := p.store.Spares().Ready > 0
	return any, p.release(ctx, func(*spareKind) bool { return true })
}

// close ends the making of spares and removes them.
func (p *spares) close(ctx context.Context) error {
	p.mu.Lock()
	p.on = false
	if p.pause != nil {
		p.pause.Stop()
	}
	p.mu.Unlock()
	_, err := p.clear(ctx)
	p.makers.Wait()
	return err
}

// release removes the spares of some kinds, and returns when none of them are made any
// more.
func (p *spares) release(ctx context.Context, which func(*spareKind) bool) error {
	var gone []spare
	var making []chan struct{}
	p.mu.Lock()
	p.kinds = slices.DeleteFunc(p.kinds, func(k *spareKind) bool {
		if !which(k) {
			return false
		}
		k.dropped = true
		gone = append(gone, k.ready...)
		if k.making != nil {
			making = append(making, k.making)
		}
		return true
	})
	p.mu.Unlock()
	err := p.abandon(ctx, gone)
	for _, done := range making {
		<-done
	}
	return err
}

// abandon removes spares that nobody took.
func (p *spares) abandon(ctx context.Context, all []spare) error {
	ids := make([]VolumeID, len(all))
	for i, s := range all {
		s.settle()
		ids[i] = s.id
	}
	return p.store.abandon(ctx, ids)
}
