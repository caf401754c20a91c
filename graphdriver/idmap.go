package graphdriver

import (
	"fmt"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/layertar"
)

// toHost translates owners from a container's user namespace to the host's. Without
// maps they are the same.
func (s state) toHost(uid, gid int) (int, int, error) {
	u, ok := mapID(s.UIDMaps, uid, func(m IDMap) (from, to int) { return m.ContainerID, m.HostID })
	g, okGroup := mapID(s.GIDMaps, gid, func(m IDMap) (from, to int) { return m.ContainerID, m.HostID })
	if !ok || !okGroup {
		return 0, 0, fmt.Errorf("owner %d:%d has no place in the user namespace of this dockerd (userns-remap): %w", uid, gid, snapshot.ErrInvalid)
	}
	return u, g, nil
}

// toContainer is the way back.
func (s state) toContainer(uid, gid int) (int, int, error) {
	u, ok := mapID(s.UIDMaps, uid, func(m IDMap) (from, to int) { return m.HostID, m.ContainerID })
	g, okGroup := mapID(s.GIDMaps, gid, func(m IDMap) (from, to int) { return m.HostID, m.ContainerID })
	if !ok || !okGroup {
		return 0, 0, fmt.Errorf("owner %d:%d on the host is nobody in the user namespace of this dockerd (userns-remap): %w", uid, gid, snapshot.ErrInvalid)
	}
	return u, g, nil
}

func mapID(maps []IDMap, id int, ends func(IDMap) (from, to int)) (int, bool) {
	if len(maps) == 0 {
		return id, true
	}
	for _, m := range maps {
		if from, to := ends(m); id >= from && id-from < m.Size {
			return to + id - from, true
		}
	}
	return 0, false
}

func (s state) mapped() bool { return len(s.UIDMaps)+len(s.GIDMaps) > 0 }

func (s state) toHostMap() layertar.OwnerMap {
	if !s.mapped() {
		return nil
	}
	return s.toHost
}

func (s state) toContainerMap() layertar.OwnerMap {
	if !s.mapped() {
		return nil
	}
	return s.toContainer
}
