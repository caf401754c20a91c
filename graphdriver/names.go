package graphdriver

import (
	"fmt"
	"strings"

	"blockstore.dev/blockstore/snapshot"
)

const prefix = "docker/"

// maxID bounds Docker's ids, which have 25 (BuildKit), 64 or 69 ("-init") bytes. They become names of directories.
const maxID = 255

// initSuffix ends the id of a container's init layer.
const initSuffix = "-init"

// isInit says whether an id is an init layer's.
func isInit(id string) bool { return strings.HasSuffix(id, initSuffix) }

// Name is what the store calls Docker's layer id.
func Name(id string) string { return prefix + id }

// ID is Docker's id of a snapshot; ok is false for those that are not Docker's.
func ID(name string) (id string, ok bool) { return strings.CutPrefix(name, prefix) }

// parentName is Name, and the base for no parent.
func parentName(id string) string {
	if id == "" {
		return ""
	}
	return Name(id)
}

// checkID refuses what is no id. Docker's are opaque, but they become names.
func checkID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("the request names no layer: it was cut off on its way, or nobody's: %w", snapshot.ErrInvalid)
	case len(id) > maxID:
		return fmt.Errorf("a layer id of %d bytes (at most %d): %w", len(id), maxID, snapshot.ErrInvalid)
	case strings.ContainsAny(id, "/\x00") || id == "." || id == "..":
		return fmt.Errorf("layer id %q: %w", id, snapshot.ErrInvalid)
	}
	return nil
}
