package thinpool

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDirectReaderGivesItsMemoryBack: reading the same again needs no new memory, and little is kept of what a long look took.
func TestDirectReaderGivesItsMemoryBack(t *testing.T) {
	const chunks = chunkCount + 3 // some take the place of others
	path := filepath.Join(t.TempDir(), "device")
	var text []byte
	for i := range chunks {
		text = append(text, bytes.Repeat([]byte{byte(i), byte(i >> 8)}, chunkSize/2)...)
	}
	text = text[:len(text)-chunkSize/2] // the end is in the middle of a chunk
	require.NoError(t, os.WriteFile(path, text, 0o600))
	for range 2 {
		r, err := openDirect(path)
		require.NoError(t, err)
		var b [16]byte
		for pass := range 2 {
			for i := range int64(chunks) {
				at := i*chunkSize + 4096
				_, err := r.ReadAt(b[:], at)
				require.NoError(t, err)
				require.Equal(t, text[at:at+16], b[:], "chunk %d, pass %d", i, pass)
			}
		}
		_, err = r.ReadAt(b[:], int64(len(text)))
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, r.Close())
		require.Len(t, idle.free, idleChunks)
	}
	few, err := openDirect(path)
	require.NoError(t, err)
	_, err = few.ReadAt(make([]byte, 16), 0)
	require.NoError(t, err)
	require.Len(t, idle.free, idleChunks-1)
	// What is kept is not seen to change, and forgotten when that is asked for.
	_, err = few.ReadAt(make([]byte, 16), chunkSize)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte{0xee}, len(text)), 0o600))
	var b [1]byte
	_, err = few.ReadAt(b[:], chunkSize)
	require.NoError(t, err)
	require.EqualValues(t, 1, b[0])
	few.forget()
	_, err = few.ReadAt(b[:], chunkSize)
	require.NoError(t, err)
	require.EqualValues(t, 0xee, b[0])
	require.NoError(t, few.Close())
}
