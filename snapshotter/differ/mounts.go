package differ

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
)

// identify finds the snapshot that mounts show. Foreign mounts are for another differ.
func (d *Differ) identify(ctx context.Context, which string, ms []*types.Mount) (snapshot.Info, error) {
	list := make([]mount.Mount, len(ms))
	for i, m := range ms {
		if m.Target != "" { // one within another: none of ours are
			return snapshot.Info{}, fmt.Errorf("%s mounts: one has the target %q: %w", which, m.Target, errdefs.ErrNotImplemented)
		}
		list[i] = mount.Mount{Type: m.Type, Source: m.Source, Options: m.Options}
	}
	in, err := d.store.Identify(ctx, list)
	if errors.Is(err, snapshot.ErrNotFound) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrNotImplemented)
	}
	if err != nil {
		return in, fmt.Errorf("%s mounts: %w", which, err)
	}
	return in, nil
}

// mapped says whether mounts show owners other than the tree's own.
func mapped(ms []*types.Mount) bool {
	for _, m := range ms {
		for _, o := range m.Options {
			if strings.HasPrefix(o, "uidmap=") || strings.HasPrefix(o, "gidmap=") {
				return true
			}
		}
	}
	return false
}
