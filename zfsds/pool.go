package zfsds

import "context"

// Pool is a pool's state.
type Pool struct {
	Name string
	// Health is ONLINE, or another state of zpoolconcepts(7).
	Health string
	// Size is its capacity, of which Allocated is taken. Freeing is what destroyed datasets
	// still hold.
	Size, Allocated, Free, Freeing Bytes
	// Fragmentation of the free space, in per cent.
	Fragmentation int
}

// Pools lists the imported pools.
func (h *Handle) Pools(ctx context.Context) ([]string, error) {
	if err := ready(ctx); err != nil {
		return nil, err
	}
	names, err := h.pools(ctx)
	return names, failure(opList, "pools", err)
}

// Pool reads an imported pool's state.
func (h *Handle) Pool(ctx context.Context, name string) (Pool, error) {
	if err := ready(ctx, checkDataset(name)); err != nil {
		return Pool{}, err
	}
	p, err := h.pool(ctx, name)
	return p, failure(opRead, name, err)
}
