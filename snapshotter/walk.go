package snapshotter

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/filters"
	"github.com/containerd/errdefs"
)

// Walk calls fn for each snapshot that one of the filters, in containerd's syntax,
// lets through; without filters for all. fn may call the Snapshotter.
func (s *Snapshotter) Walk(ctx context.Context, fn snapshots.WalkFunc, fs ...string) error {
	filter, err := filters.ParseAll(fs...)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	all, err := s.store.List(ctx)
	if err != nil {
		return classify(err)
	}
	for _, in := range all {
		if _, ours := s.scope.key(in.Name); !ours {
			continue
		}
		if err := ctx.Err(); err != nil {
			return classify(err)
		}
		if info := s.info(in); filter.Match(adapt(info)) {
			if err := fn(ctx, info); err != nil {
				return err
			}
		}
	}
	return nil
}

// adapt shows a snapshot's fields to filters.
func adapt(in snapshots.Info) filters.Adaptor {
	return filters.AdapterFunc(func(path []string) (string, bool) {
		switch {
		case len(path) == 1 && path[0] == "kind":
			return strings.ToLower(in.Kind.String()), true
		case len(path) == 1 && path[0] == "name":
			return in.Name, true
		case len(path) == 1 && path[0] == "parent":
			return in.Parent, true
		case len(path) > 1 && path[0] == "labels":
			value, ok := in.Labels[strings.Join(path[1:], ".")]
			return value, ok
		}
		return "", false
	})
}
