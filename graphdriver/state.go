package graphdriver

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"blockstore.dev/blockstore/snapshot"
)

// door is the name under which the store keeps our state.
const door = "docker"

// state is what dockerd said in Init. It is kept, since dockerd says it once in its
// own run, and not again to a plugin that was restarted.
type state struct {
	Home    string   `json:"home,omitempty"`
	Options []string `json:"options,omitempty"`
	UIDMaps []IDMap  `json:"uidMaps,omitempty"`
	GIDMaps []IDMap  `json:"gidMaps,omitempty"`
	// PID and Began identify the dockerd that said it.
	PID   int32  `json:"pid,omitempty"`
	Began string `json:"began,omitempty"`
}

// recall reads what an earlier process was told.
func (p *Plugin) recall() error {
	st, err := stateOf(p.store)
	if err != nil {
		return err
	}
	p.state, p.owner = st, process{st.PID, st.Began}
	if p.rules, err = parseOptions(st.Options, p.facts(context.Background())); err != nil {
		// Another version took them. dockerd hears of it when it begins anew.
		p.log.Warn("the storage options that dockerd gave last do not hold", "error", err)
	}
	return nil
}

func stateOf(store *snapshot.Store) (state, error) {
	raw, err := store.DoorState(door)
	if err != nil || raw == nil {
		return state{}, err
	}
	var st state
	if err := json.Unmarshal(raw, &st); err != nil {
		return st, fmt.Errorf("what the catalog keeps for Docker: %w: %w", snapshot.ErrCorrupt, err)
	}
	return st, nil
}

// told is what dockerd said last.
func (p *Plugin) told() (state, rules) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.state, p.rules
}

// init begins a dockerd's run: its home, options and id maps hold from now on, and
// references that an earlier run did not give back are void.
func (p *Plugin) init(ctx context.Context, q request) (any, error) {
	if !filepath.IsAbs(q.Home) || strings.ContainsRune(q.Home, 0) {
		return nil, fmt.Errorf("home %q is no absolute path: %w", q.Home, snapshot.ErrInvalid)
	}
	for _, m := range append(append([]IDMap{}, q.UIDMaps...), q.GIDMaps...) {
		if m.Size <= 0 || m.ContainerID < 0 || m.HostID < 0 {
			return nil, fmt.Errorf("id map %+v: %w", m, snapshot.ErrInvalid)
		}
	}
	rules, err := parseOptions(q.Opts, p.facts(ctx))
	if err != nil {
		return nil, err
	}
	st := state{Home: filepath.Clean(q.Home), Options: q.Opts, UIDMaps: q.UIDMaps, GIDMaps: q.GIDMaps}
	var caller process
	if peer, ok := peerOf(ctx); ok {
		caller = processOf(peer.pid)
		st.PID, st.Began = caller.pid, caller.began
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owner != caller && p.owner.lives() {
		return nil, fmt.Errorf("dockerd with pid %d (data root %s) uses this store: a store serves one dockerd at a time; stop that one, or give each a store of its own: %w",
			p.owner.pid, filepath.Dir(p.state.Home), snapshot.ErrBusy)
	}
	_, gid, err := st.toHost(0, 0)
	if err == nil && (st.mapped() || p.state.mapped()) {
		err = p.store.AllowGroup(gid)
	}
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	if err := p.store.SetDoorState(door, raw); err != nil {
		return nil, err
	}
	p.state, p.rules, p.owner = st, rules, caller
	p.refs.forget()
	p.forgetInits(ctx)
	p.log.Info("dockerd has begun", "home", st.Home, "options", st.Options, "userns", st.mapped(), "pid", st.PID)
	return empty{}, nil
}

// capabilities: Docker keeps what it takes to write a layer's tar again (tar-split)
// itself, as with its own drivers; so a data root can go back to them.
func (p *Plugin) capabilities(context.Context, request) (any, error) {
	return abilities{capability{ReproducesExactDiffs: false}}, nil
}
