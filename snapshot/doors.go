package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/mount"
)

// DoorDir is a directory below the store for files of a door's own that no boot has to be outlived by: a file system in
// memory (tmpfs(5)), where a file costs no write to the disk. It is made when first asked for, outlives the process while
// there is anything in it, and goes with the store.
func (s *Store) DoorDir(door string) (string, error) {
	dir := filepath.Join(s.root, dirDoors, door)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", noSpace(err)
	}
	there, err := isMountPoint(dir)
	if err == nil && !there {
		err = setApart(dir, dir)
	}
	if err != nil {
		return "", fmt.Errorf("keeping the files of the door %s in memory: %w", door, err)
	}
	return dir, nil
}

// closeDoors unmounts the doors' directories below root, where nothing is in them or everything goes. One that somebody uses stays.
func closeDoors(root string, all bool) error {
	doors, err := os.ReadDir(filepath.Join(root, dirDoors))
	err = ignoreMissing(err)
	for _, d := range doors {
		dir := filepath.Join(root, dirDoors, d.Name())
		left, readErr := os.ReadDir(dir)
		if readErr != nil || (len(left) > 0 && !all) {
			err = errors.Join(err, readErr)
			continue
		}
		if failed := mount.Unmount(dir); failed != nil && (all || !errors.Is(failed, unix.EBUSY)) {
			err = errors.Join(err, failed)
		}
	}
	return err
}

// DoorState is what a door keeps in the catalog: what it was last told by those
// who come through it. nil is nothing yet.
func (s *Store) DoorState(door string) (json.RawMessage, error) {
	var state json.RawMessage
	err := s.cat.view(func(t *tx) error {
		_, err := t.get(bucketDoors, door, &state)
		return err
	})
	return state, err
}

// SetDoorState replaces it, durably.
func (s *Store) SetDoorState(door string, state json.RawMessage) error {
	if err := s.commit(func(t *tx) error { return t.put(bucketDoors, door, state) }); err != nil {
		return fmt.Errorf("keeping the state of the door %s: %w", door, err)
	}
	return nil
}
