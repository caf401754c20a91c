package thinpool_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// rest closes a pool and opens it again, and gives the note that was there between.
func (w *world) rest(p *thinpool.Pool) (*thinpool.Pool, []byte) {
	w.t.Helper()
	require.NoError(w.t, p.Close(w.t.Context()))
	note, err := os.ReadFile(p.Config().Tidy)
	require.NoError(w.t, err)
	p = w.reopen(p)
	require.NoFileExists(w.t, p.Config().Tidy, "a power cut could tear something now")
	return p, note
}

// sectorsRead is what a block device has read, in sectors of 512 bytes.
func (w *world) sectorsRead(path string) (n uint64) {
	w.t.Helper()
	number, err := dm.BlockDeviceNumber(path)
	require.NoError(w.t, err)
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%s/stat", number))
	require.NoError(w.t, err)
	_, err = fmt.Sscan(strings.Fields(string(text))[2], &n)
	require.NoError(w.t, err)
	return n
}

// TestTidy: after a clean stop Open does not search the metadata, and what it reads does not grow with the devices.
func TestTidy(t *testing.T) {
	w := newWorld(t)
	p, slice := w.slicedPool()
	reads := func() uint64 {
		before := w.sectorsRead(slice.path())
		p = w.reopen(p)
		return w.sectorsRead(slice.path()) - before
	}
	p, _ = w.rest(p)
	require.NoError(t, p.Close(t.Context()))
	one := reads()
	for id := range dm.DeviceID(100) {
		require.NoError(t, p.CreateThin(t.Context(), 10+id))
		f := w.activate(p, 10+id)
		require.NoError(t, w.fill(f, int(id), 1, 'x'))
		require.NoError(t, f.Close())
		require.NoError(t, p.Deactivate(t.Context(), 10+id))
	}
	require.NoError(t, p.Close(t.Context()))
	many := reads()
	require.NoError(t, p.Close(t.Context()))
	require.NoError(t, os.Remove(p.Config().Tidy))
	searched := reads()
	t.Logf("sectors read: %d with one device, %d with 101, %d without the note", one, many, searched)
	require.LessOrEqual(t, many, one+4*8, "the nodes of deeper trees, at most")
	require.Greater(t, searched, 2*many)

	require.NoError(t, p.Close(t.Context()))
	require.FileExists(t, p.Config().Tidy)
	require.NoError(t, thinpool.Destroy(t.Context(), w.dm, p.Config()))
	require.NoFileExists(t, p.Config().Tidy)
}

// TestTidyIsOfOneSuperblock: a note of anything else is none.
func TestTidyIsOfOneSuperblock(t *testing.T) {
	w := newWorld(t)
	p, older := w.rest(w.pool())
	require.NoError(t, p.CreateThin(t.Context(), 1))
	p, now := w.rest(p)
	require.NotEqual(t, string(older), string(now))

	// It is not there while the pool is up, and gone for good before the kernel holds anything.
	require.NoError(t, os.WriteFile(p.Config().Tidy, now, 0o600))
	require.NoError(t, p.Metadata(t.Context(), func(*metadata.View) error {
		require.NoFileExists(t, p.Config().Tidy)
		return nil
	}))
	p, _ = w.rest(p)

	// Where none can be left, or none can be taken away, is told when it matters.
	c := p.Config()
	require.NoError(t, os.MkdirAll(c.Tidy+"/in the way", 0o700))
	require.NoError(t, p.Close(t.Context()), "a stop is a stop without it")
	_, err := thinpool.Open(t.Context(), w.dm, c)
	require.ErrorContains(t, err, "the note of a clean stop")
	require.NoError(t, os.RemoveAll(c.Tidy))
	require.NoError(t, os.WriteFile(c.Tidy, older, 0o600))
	p = w.reopen(p)
	require.NoError(t, p.Close(t.Context()))
}
