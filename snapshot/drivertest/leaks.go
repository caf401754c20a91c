package drivertest

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot/mount"
)

// leaks fails the test for what a closed or destroyed store left behind.
func (e *env) leaks(destroyed bool) {
	e.t.Helper()
	found, err := findLeaks(e.f, e.root, e.id, destroyed)
	require.NoError(e.t, err, "looking for leaks")
	require.Empty(e.t, found, "left behind (destroyed: %v)", destroyed)
}

func findLeaks(f Factory, root, storeID string, destroyed bool) ([]string, error) {
	var found []string
	below, err := mount.Below(root)
	if err != nil {
		return nil, err
	}
	for _, m := range below {
		found = append(found, "mount "+m.Target)
	}
	loops, err := loopsBelow(root)
	if err != nil {
		return nil, err
	}
	found = append(found, loops...)
	if f.Leaks != nil {
		more, err := f.Leaks(root, storeID, destroyed)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// loopsBelow lists loop devices whose backing file lies, or lay, below root.
func loopsBelow(root string) ([]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil { // detached meanwhile
			continue
		}
		if path := strings.TrimSpace(string(raw)); strings.HasPrefix(path, root+"/") {
			found = append(found, strings.Split(file, "/")[3]+" "+path)
		}
	}
	return found, nil
}
