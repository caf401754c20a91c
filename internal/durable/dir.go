package durable

import (
	"errors"
	"fmt"
	"os"
)

// Dir makes names durable that were given, changed or taken away in a directory: fsync(2) of a file says nothing of the
// directory that has it. ErrNotExist if the directory does not.
func Dir(path string) error {
	d, err := os.Open(path)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("syncing directory: %w", err)
	}
	return nil
}
