package main

import (
	"context"

	"blockstore.dev/blockstore/snapshot"
)

// holdings is all that a store has, Docker's among it.
type holdings struct {
	list   []snapshot.Info
	images []snapshot.Image
	docker dockerView
}

func holdingsOf(ctx context.Context, s *snapshot.Store) (h holdings, err error) {
	if h.list, err = s.List(ctx); err != nil {
		return h, err
	}
	if h.docker, err = viewDocker(ctx, s); err != nil {
		return h, err
	}
	h.images, err = allImages(ctx, s, h.docker)
	return h, err
}
