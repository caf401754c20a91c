package graphdriver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"blockstore.dev/blockstore/snapshot"
)

// Below each container dockerd makes a layer of its own, the init layer, and writes into it before it makes the container.
// What it writes is the same for all containers of an image. So it is shown an empty directory, and the containers stand on
// one layer of the image's that has on it what was written there; see ADR 14.

// labelInit is the label of an image's init layer: the sum of what dockerd has written.
const labelInit = "docker.init"

// imageInit is the id of the init layer that containers of an image share, by the id of the image's last layer and the sum of
// what dockerd has written. Docker has no such ids.
func imageInit(layer, sum string) string { return layer + "-" + sum[:12] + initSuffix }

// isImageInit says whether a snapshot is an image's init layer, or was to become one.
func isImageInit(in snapshot.Info) bool { return in.Labels[labelInit] != "" }

// written is what dockerd was shown, or is to be, as an init layer.
func (p *Plugin) written(id string) written { return written(filepath.Join(p.dir, id)) }

// createInit makes what dockerd is shown as a container's init layer. What a process has left that died over it goes.
// The container is begun; made is for it on the image.
func (p *Plugin) createInit(ctx context.Context, q request, made snapshot.CreateRequest) error {
	_, unlock := p.refs.lock(q.ID)
	defer unlock()
	if _, err := p.store.Stat(ctx, Name(q.Parent)); err != nil {
		return fmt.Errorf("parent: %w", err)
	}
	there, err := p.has(ctx, q.ID)
	if err != nil {
		return err
	}
	if there {
		return fmt.Errorf("init layer %q: %w", q.ID, snapshot.ErrExists)
	}
	// Whatever has the container's name from here on was made ahead, and may be discarded.
	container, _ := strings.CutSuffix(q.ID, initSuffix)
	if _, err := p.store.Stat(ctx, Name(container)); !errors.Is(err, snapshot.ErrNotFound) {
		if err == nil {
			err = snapshot.ErrExists
		}
		return fmt.Errorf("init layer %q of a layer that is there already: %w", q.ID, err)
	}
	w := p.written(q.ID)
	err = w.make(q.Parent)
	if errors.Is(err, os.ErrExist) {
		if err = w.remove(); err == nil {
			err = w.make(q.Parent)
		}
	}
	if err == nil {
		p.makeAhead(ctx, q, made)
	}
	return err
}

// forgetInit removes what dockerd was shown as a container's init layer, with the container if dockerd has not asked for it.
func (p *Plugin) forgetInit(ctx context.Context, id string) error {
	w := p.written(id)
	if _, ok, _ := w.below(); ok {
		container, _ := strings.CutSuffix(id, initSuffix)
		p.ahead.end(container)
		if err := p.discardAhead(ctx, container); err != nil {
			return err
		}
	}
	return w.remove()
}

// forgetInits removes what dockerds before this one have written and made no containers of.
func (p *Plugin) forgetInits(ctx context.Context) {
	p.ahead.forgetAll()
	entries, err := os.ReadDir(p.dir)
	for _, e := range entries {
		err = errors.Join(err, p.forgetInit(ctx, e.Name()))
	}
	if err != nil {
		p.log.Warn("what an earlier dockerd wrote into init layers is left", "error", err)
	}
}

// hasInit says whether Docker made an init layer and has not removed it.
func (p *Plugin) hasInit(ctx context.Context, id string) bool {
	container, ok := strings.CutSuffix(id, initSuffix)
	if !ok {
		return false
	}
	if _, ok, _ := p.written(id).below(); ok {
		return true
	}
	in, err := p.store.Stat(ctx, Name(container))
	if err != nil || in.Parent == "" {
		return false
	}
	in, err = p.store.Stat(ctx, in.Parent)
	return err == nil && isImageInit(in)
}

// createContainer makes a container on its image's init layer, which is made first where there is none. made is for the
// container on the image, whose last layer is layer.
func (p *Plugin) createContainer(ctx context.Context, q request, layer string, made snapshot.CreateRequest) error {
	_, unlock := p.refs.lock(q.Parent)
	defer unlock()
	w := p.written(q.Parent)
	if _, ok, err := w.below(); !ok { // made meanwhile
		return errors.Join(err, fmt.Errorf("container %q: %w", q.ID, snapshot.ErrExists))
	}
	sum, err := w.sum()
	if err != nil {
		return err
	}
	shared := imageInit(layer, sum)
	p.settled(layer)
	if err := p.needInit(ctx, w, shared, sum, made); err != nil {
		return err
	}
	made.Parent, made.FreezeParent = Name(shared), false
	there, err := p.takeAhead(ctx, q.ID, made)
	if err == nil && !there {
		_, err = p.store.Create(ctx, Name(q.ID), made)
	}
	if err != nil {
		return err
	}
	if err := w.end(); err != nil {
		return errors.Join(err, p.discardAhead(context.WithoutCancel(ctx), q.ID))
	}
	p.ahead.stands(layer, shared)
	p.calls.Go(func() { _ = w.remove() }) // what stays goes with the next dockerd
	return nil
}

// needInit makes an image's init layer, if there is none. It replaces what a process has left that died over it.
func (p *Plugin) needInit(ctx context.Context, w written, id, sum string, made snapshot.CreateRequest) (err error) {
	_, unlock := p.refs.lock(id) // one makes it, and the others find it
	defer unlock()
	in, err := p.store.Stat(ctx, Name(id))
	switch {
	case err == nil && in.Kind == snapshot.KindLayer:
		return nil
	case err == nil:
		err = p.store.Discard(ctx, Name(id))
	case errors.Is(err, snapshot.ErrNotFound):
		err = nil
	}
	if err != nil {
		return err
	}
	made.Size, made.Scratch = 0, true
	made.Labels = map[string]string{labelHome: made.Labels[labelHome], labelInit: sum}
	if _, err := p.store.Create(ctx, Name(id), made); err != nil {
		return err
	}
	dir, release, err := p.store.Use(ctx, Name(id))
	if err == nil {
		err = errors.Join(w.writeTo(dir), release())
	}
	if err == nil {
		_, err = p.store.Freeze(ctx, Name(id), snapshot.FreezeRequest{Labels: made.Labels})
	}
	if err != nil {
		err = errors.Join(err, p.store.Discard(context.WithoutCancel(ctx), Name(id)))
	}
	return err
}

// discard is Discard of a layer and of the init layers that were made of it for an image's containers, of which Docker
// does not know.
func (p *Plugin) discard(ctx context.Context, id string) error {
	p.ahead.forget(id)
	err := p.store.Discard(ctx, Name(id))
	if !errors.Is(err, snapshot.ErrBusy) {
		return err
	}
	above, listErr := p.store.Children(ctx, Name(id))
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	for _, in := range above {
		if isImageInit(in) {
			if err := p.store.Discard(ctx, in.Name); err != nil && !errors.Is(err, snapshot.ErrNotFound) {
				return err
			}
		}
	}
	return p.store.Discard(ctx, Name(id))
}

// below is the name of what a layer is compared with. A container's init layer is what the container stands on.
func (p *Plugin) below(ctx context.Context, q request) (string, error) {
	if q.Parent != q.ID+initSuffix {
		return parentName(q.Parent), nil
	}
	in, err := p.store.Stat(ctx, Name(q.ID))
	return in.Parent, err
}
