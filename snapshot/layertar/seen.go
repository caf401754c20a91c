package layertar

import "hash/maphash"

// seenFlags say what a layer did with a path.
type seenFlags uint8

const (
	seenFile seenFlags = 1 << iota // an entry that is not a directory
	seenDir                        // a directory's entry
	seenUsed                       // a component of another entry's parent
)

// seen remembers the paths that a layer wrote, as 64 bit hashes with a random
// seed: a million entries cost some 20 MiB, and the chance of one collision among
// them is about one in thirty million.
type seen struct {
	seed  maphash.Seed
	paths map[uint64]seenFlags
}

func newSeen() *seen {
	return &seen{seed: maphash.MakeSeed(), paths: map[uint64]seenFlags{}}
}

func (s *seen) get(canonical string) seenFlags {
	return s.paths[maphash.String(s.seed, canonical)]
}

func (s *seen) add(canonical string, f seenFlags) {
	s.paths[maphash.String(s.seed, canonical)] |= f
}
