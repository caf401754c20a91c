package perf

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestWhySmallerFile: a target for 1 GiB that a smaller file misses says so, and one that 1 GiB misses does not.
func TestWhySmallerFile(t *testing.T) {
	target := func(text, row string) Target { return Target{Text: text, Cell: Cell{Row: row}} }
	const first = "blockstore/zfs: first write into the largest file: 500 times faster than overlay on ext4 (for 1 GiB)"
	const space = "blockstore/zfs: space after four bytes into a file of 64 MiB: 1,000 times less than overlay on ext4 (for 1 GiB)"
	assert.Contains(t, target(first, "W1 first write into a file, 64 MiB").why(), "what overlay copies grows")
	assert.Empty(t, target(first, "W1 first write into a file, 1024 MiB").why())
	assert.Contains(t, target(space, "W10 space of a container after four bytes into a file of 64 MiB").why(), "what overlay copies grows")
	assert.Empty(t, target(space, "W10 space of a container after four bytes into a file of 1024 MiB").why())
}
