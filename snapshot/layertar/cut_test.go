package layertar

import (
	"archive/tar"
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCutAnywhere cuts an archive with extended headers every 100 bytes: up to the
// trailer each piece is refused.
func TestCutAnywhere(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"a", "b"} {
		require.NoError(t, w.WriteHeader(&tar.Header{
			Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: 4, ModTime: time.Unix(1, 5), Format: tar.FormatPAX,
		}))
		_, err := w.Write([]byte("body"))
		require.NoError(t, err)
	}
	require.NoError(t, w.Flush())
	end := b.Len()
	require.NoError(t, w.Close())
	for n := 0; n <= end; n += 100 {
		_, err := Apply(t.Context(), t.TempDir(), bytes.NewReader(b.Bytes()[:n]), ApplyOptions{})
		require.ErrorIs(t, err, ErrArchive, "cut after %d of %d bytes", n, end)
	}
	_, err := Apply(t.Context(), t.TempDir(), &b, ApplyOptions{})
	require.NoError(t, err)
}
