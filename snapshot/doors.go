package snapshot

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// DoorDir is a directory below the store for files of a door's own, which is made when first asked for and goes with the store.
func (s *Store) DoorDir(door string) (string, error) {
	dir := filepath.Join(s.root, dirDoors, door)
	return dir, os.MkdirAll(dir, 0o700)
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
