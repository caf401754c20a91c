package snapshot

import (
	"context"
	"slices"
	"sync"

	"blockstore.dev/blockstore/snapshot/layertar"
)

// mostParents bounds the names that are kept in mind of all layers together, at 16 bytes each.
const mostParents = 1 << 20

// knownParents keeps of the layers that were compared with last in which directories their files are. What is sealed does not
// change, and no volume gets the number of another, so that nothing of it can be out of date.
type knownParents struct {
	most int // names

	mu     sync.Mutex
	layers []layerParents // the one that was used last comes last
	names  int
}

type layerParents struct {
	volume VolumeID
	*layertar.Parents
}

// of reads them, unless they are known, of a volume that is shown at dir.
func (k *knownParents) of(ctx context.Context, v Volume, dir string) (*layertar.Parents, error) {
	if p := k.use(v.ID); p != nil {
		return p, nil
	}
	p, err := layertar.ReadParents(ctx, dir)
	if err != nil {
		return nil, err
	}
	if v.Sealed {
		k.keep(layerParents{v.ID, p})
	}
	return p, nil
}

// use gives those of a layer that are known, or nil.
func (k *knownParents) use(id VolumeID) *layertar.Parents {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.layers, func(l layerParents) bool { return l.volume == id })
	if i < 0 {
		return nil
	}
	l := k.layers[i]
	k.layers = append(slices.Delete(k.layers, i, i+1), l)
	return l.Parents
}

// keep has a layer's known, in the place of others that were not used for longest. One that is too large takes nobody's.
func (k *knownParents) keep(l layerParents) {
	if l.Len() > k.most {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.ContainsFunc(k.layers, func(other layerParents) bool { return other.volume == l.volume }) {
		return // another comparison has read them at the same time
	}
	k.layers = append(k.layers, l)
	for k.names += l.Len(); k.names > k.most; k.layers = slices.Delete(k.layers, 0, 1) {
		k.names -= k.layers[0].Len()
	}
}
