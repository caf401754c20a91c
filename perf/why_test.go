package perf

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

// TestWhyMissed: a report that is committed says of each target that it misses what that is due to.
func TestWhyMissed(t *testing.T) {
	files, err := filepath.Glob("figures/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		f, err := os.Open(name)
		require.NoError(t, err)
		r, err := Read(f)
		require.NoError(t, errors.Join(err, f.Close()), name)
		for _, target := range r.Targets {
			if is, known := target.reached(r); known && is.Value > target.AtMost {
				assert.NotEmpty(t, target.why(), "%s: %s", name, target.Text)
			}
		}
	}
}
