package main

import (
	"context"
	"errors"
	"fmt"

	"blockstore.dev/blockstore/graphdriver"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshotter"
)

// notOthers refuses to change what belongs to those behind a door: they would miss it.
// dockerVerb is what Docker calls the verb.
func notOthers(in snapshot.Info, dockerVerb string) error {
	if _, ok := graphdriver.ID(in.Name); ok {
		return mendf(fmt.Errorf("%q is Docker's: it would miss it: %w", in.Name, snapshot.ErrBusy), "docker %s", dockerVerb)
	}
	if plugin, key, ok := snapshotter.Key(in.Name); ok {
		return mendf(fmt.Errorf("%q is containerd's: it would miss it: %w", in.Name, snapshot.ErrBusy),
			"remove what needs it with containerd's own tools (its plugin %s knows it as %q)", plugin, key)
	}
	return nil
}

// findOwn finds a container that the command line may change.
func findOwn(ctx context.Context, s *snapshot.Store, name, dockerVerb string) (snapshot.Info, error) {
	in, err := findContainer(ctx, s, name)
	return in, errors.Join(err, notOthers(in, dockerVerb))
}
