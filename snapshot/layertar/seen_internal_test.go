package layertar

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSeenMemory: a million paths are remembered in less than 64 MiB, and each as what it was.
func TestSeenMemory(t *testing.T) {
	const n = 1_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := newSeen()
	for i := range n {
		s.add(fmt.Sprintf("some/long/directory/name/file-%d", i), seenFile)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(64<<20))
	require.Equal(t, seenFile, s.get("some/long/directory/name/file-77"))
	require.Zero(t, s.get("some/long/directory/name/file-x"))
}
