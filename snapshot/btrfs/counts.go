package btrfs

import (
	"sync"

	"github.com/google/uuid"

	"blockstore.dev/blockstore/btrfsvol"
)

// counts remembers what volumes referred to when their files were last changed. Whoever polls
// the usage of a thousand containers has those counted that were written to.
type counts struct {
	mu    sync.Mutex
	known map[uuid.UUID]remembered
}

// remembered is what a subvolume referred to in a state of its files.
type remembered struct {
	state      btrfsvol.Subvolume
	referenced btrfsvol.Bytes
}

// maxCounts bounds what is remembered. There are few that change, and they are counted again.
const maxCounts = 1 << 16

// sameFiles says whether nothing was changed between two states of a subvolume, or in one since it was
// made as a snapshot of the other: a snapshot has the time of its source's last change until its own first one.
func sameFiles(a, b btrfsvol.Subvolume) bool {
	return a.Changed == b.Changed && a.ChangedTime.Equal(b.ChangedTime)
}

// of is what s refers to, if it is known from s itself or from what it was made of.
func (c *counts) of(s, origin btrfsvol.Subvolume) (btrfsvol.Bytes, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range []btrfsvol.Subvolume{s, origin} {
		if k, ok := c.known[of.UUID]; ok && sameFiles(k.state, of) && sameFiles(of, s) {
			return k.referenced, true
		}
	}
	return 0, false
}

func (c *counts) put(s btrfsvol.Subvolume, referenced btrfsvol.Bytes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxCounts {
		c.known = map[uuid.UUID]remembered{}
	}
	c.known[s.UUID] = remembered{s, referenced}
}
