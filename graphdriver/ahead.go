package graphdriver

import (
	"context"
	"errors"
	"strings"
	"sync"

	"blockstore.dev/blockstore/snapshot"
)

// ahead are the containers that were begun before dockerd asked for them: with the init layer it names the container, and while
// it writes into the one the other is made, on the init layer that the image's last container stands on. Until dockerd has asked for
// it a container is nobody's, and goes with what dockerd was shown as its init layer.
type ahead struct {
	mu    sync.Mutex
	inits map[string]string // an image's last layer -> the init layer that its last container stands on
	begun map[string]*begun // by the container's id
}

// begun is one of them.
type begun struct {
	as   snapshot.CreateRequest
	done chan struct{} // closed when err is known
	err  error
}

// stands notes what a container of an image stands on.
func (a *ahead) stands(layer, on string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inits == nil {
		a.inits, a.begun = map[string]string{}, map[string]*begun{}
	}
	a.inits[layer] = on
}

// forget has an image's next container made when dockerd asks for it.
func (a *ahead) forget(layer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.inits, layer)
}

// forgetAll is forget of all images.
func (a *ahead) forgetAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.inits)
}

// begin notes a container that is about to be made, if it is known on what.
func (a *ahead) begin(id, layer string, as snapshot.CreateRequest) *begun {
	a.mu.Lock()
	defer a.mu.Unlock()
	on, ok := a.inits[layer]
	if !ok {
		return nil
	}
	as.Parent, as.FreezeParent = Name(on), false
	b := &begun{as: as, done: make(chan struct{})}
	a.begun[id] = b
	return b
}

// end returns one that was begun, when it is made or has failed, and forgets it. nil is none.
func (a *ahead) end(id string) *begun {
	a.mu.Lock()
	b := a.begun[id]
	delete(a.begun, id)
	a.mu.Unlock()
	if b != nil {
		<-b.done
	}
	return b
}

// makeAhead begins to make the container whose init layer q is. made is for the container on the image.
func (p *Plugin) makeAhead(ctx context.Context, q request, made snapshot.CreateRequest) {
	id, _ := strings.CutSuffix(q.ID, initSuffix)
	b := p.ahead.begin(id, q.Parent, made)
	if b == nil {
		return
	}
	p.calls.Go(func() {
		defer close(b.done)
		_, b.err = p.store.Create(context.WithoutCancel(ctx), Name(id), b.as)
	})
}

// takeAhead says whether a container that dockerd asks for is made. One that was begun otherwise goes, also
// one that a process before this one had begun.
func (p *Plugin) takeAhead(ctx context.Context, id string, made snapshot.CreateRequest) (bool, error) {
	if b := p.ahead.end(id); b != nil && b.err == nil && b.as.Parent == made.Parent && b.as.Size == made.Size {
		return true, nil
	}
	return false, p.discardAhead(ctx, id)
}

func (p *Plugin) discardAhead(ctx context.Context, id string) error {
	if err := p.store.Discard(ctx, Name(id)); !errors.Is(err, snapshot.ErrNotFound) {
		return err
	}
	return nil
}

// isAhead says whether dockerd has not asked for a container yet.
func (p *Plugin) isAhead(id string) bool {
	_, ok, _ := p.written(id + initSuffix).below()
	return ok
}
