package durable

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDir(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Dir(dir))
	require.ErrorIs(t, Dir(filepath.Join(dir, "gone")), os.ErrNotExist)
}
