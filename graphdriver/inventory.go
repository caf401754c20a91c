package graphdriver

import (
	"context"
	"errors"
	"os"
	"regexp"

	"blockstore.dev/blockstore/graphdriver/dockerroot"
	"blockstore.dev/blockstore/snapshot"
)

// Inventory is what the dockerd that was served last knows of its layers: the names
// of its images and containers. It is empty where no dockerd was ever served, or its
// data root is not to be seen from here. It may be called while a Plugin serves.
func Inventory(_ context.Context, store *snapshot.Store) (dockerroot.Inventory, error) {
	st, err := stateOf(store)
	if err != nil || st.Home == "" {
		return dockerroot.Inventory{}, err
	}
	inv, err := dockerroot.Read(st.Home)
	if errors.Is(err, os.ErrNotExist) {
		return dockerroot.Inventory{}, nil
	}
	return inv, err
}

// orphanable are the ids that dockerd's layer store makes up. BuildKit's look
// otherwise, and only BuildKit knows which of them it needs.
var orphanable = regexp.MustCompile(`^[0-9a-f]{64}((-[0-9a-f]{12})?-init)?$`)

// Orphans are the names of snapshots that Docker has forgotten, those first that
// stand on others: what it was making when it died, and the init layers of
// containers that it failed to make. It is right only while that dockerd creates
// nothing. Where Docker's data root is gone, nothing is called an orphan.
func Orphans(ctx context.Context, store *snapshot.Store) ([]string, error) {
	st, err := stateOf(store)
	if err != nil || st.Home == "" {
		return nil, err
	}
	inv, err := dockerroot.Read(st.Home)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{} // by what is no orphan
	left := map[string]snapshot.Info{}
	for _, in := range all {
		id, ok := ID(in.Name)
		if ok && orphanable.MatchString(id) && !inv.Known[id] && in.Labels[labelHome] == st.Home && in.Mounted == "" {
			left[in.Name] = in
		} else {
			needed[in.Parent] = true
		}
	}
	for changed := true; changed; { // what stands below something needed is needed
		changed = false
		for name, in := range left {
			if needed[name] {
				delete(left, name)
				needed[in.Parent], changed = true, true
			}
		}
	}
	for name, in := range left { // an image's init layer goes with the image
		if _, ok := left[in.Parent]; !ok && isImageInit(in) {
			delete(left, name)
		}
	}
	return topDown(left), nil
}

// topDown orders snapshots so that each comes before its parent.
func topDown(set map[string]snapshot.Info) []string {
	children := map[string]int{}
	for _, in := range set {
		children[in.Parent]++
	}
	var order []string
	for len(set) > 0 {
		for name, in := range set {
			if children[name] == 0 {
				order = append(order, name)
				children[in.Parent]--
				delete(set, name)
			}
		}
	}
	return order
}
