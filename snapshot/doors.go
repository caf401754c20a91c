package snapshot

import (
	"encoding/json"
	"fmt"
)

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
