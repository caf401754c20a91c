package layertar_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"blockstore.dev/blockstore/snapshot/layertar"
	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

// TestCompareWhileWritten: whatever somebody does to upper meanwhile, comparing it is no error, and tells what is beside that.
func TestCompareWhileWritten(t *testing.T) {
	requireRoot(t)
	const most = 5 // tries
	tries := 0
	rapid.Check(t, func(r *rapid.T) {
		if tries++; tries > most {
			return
		}
		lower, upper := t.TempDir(), t.TempDir()
		for _, dir := range []string{lower, upper} {
			require.NoError(r, os.MkdirAll(filepath.Join(dir, "mess"), 0o755))
			require.NoError(r, os.MkdirAll(filepath.Join(dir, "still"), 0o755))
			m := treetest.Mess{R: r, Dir: filepath.Join(dir, "mess")}
			for range 20 {
				m.Step()
			}
		}
		require.NoError(r, os.WriteFile(filepath.Join(lower, "still", "gone"), nil, 0o644))
		require.NoError(r, os.WriteFile(filepath.Join(upper, "still", "new"), nil, 0o644))
		compare := func() bool {
			all, err := layertar.Changes(t.Context(), lower, upper, layertar.CompareOptions{})
			found := ""
			for _, c := range all {
				if strings.HasPrefix(c.Path, "/still") {
					found += c.Kind.String() + c.Path
				}
			}
			return assert.NoError(t, err) && assert.Equal(t, "C/stillD/still/goneA/still/new", found)
		}
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for compare() {
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		defer func() { // also where a step fails
			close(stop)
			<-ended
		}()
		m := treetest.Mess{R: r, Dir: filepath.Join(upper, "mess")}
		for range 300 {
			m.Step()
		}
	})
}
