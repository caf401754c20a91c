package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// endless is a stream that counts what is read of it.
type endless struct{ n, closed atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.n.Add(int64(len(p)))
	return len(p), nil
}

func (e *endless) Close() error {
	e.closed.Add(1)
	return nil
}

func TestAheadIsBoundedAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endless{}
		a := newAhead(context.Background(), func() (io.ReadCloser, error) { return e, nil })
		synctest.Wait()
		read := e.n.Load()
		require.Positive(t, read)
		require.LessOrEqual(t, read, int64(aheadBuffers*aheadBuffer))
		_, err := io.CopyN(io.Discard, a, 100<<20)
		require.NoError(t, err)
		synctest.Wait()
		require.LessOrEqual(t, e.n.Load(), int64(100<<20+aheadBuffers*aheadBuffer))
		require.Zero(t, e.closed.Load())
		require.NoError(t, a.Close())
		require.NoError(t, a.Close())
		require.Equal(t, int64(1), e.closed.Load())
	})
}

func TestAheadGivesWhatWasReadBeforeTheError(t *testing.T) {
	broken := errors.New("broken")
	for name, want := range map[string]error{"end": nil, "error": broken} {
		t.Run(name, func(t *testing.T) {
			data := bytes.Repeat([]byte("0123456789"), 500_000)
			a := newAhead(context.Background(), func() (io.ReadCloser, error) {
				if want == nil {
					return io.NopCloser(bytes.NewReader(data)), nil
				}
				return io.NopCloser(io.MultiReader(bytes.NewReader(data), errorReader{want})), nil
			})
			defer a.Close()
			got, err := io.ReadAll(a)
			require.Equal(t, want, err)
			require.Equal(t, data, got)
		})
	}
	a := newAhead(context.Background(), func() (io.ReadCloser, error) { return nil, broken })
	_, err := a.Read(make([]byte, 1))
	require.ErrorIs(t, err, broken)
	require.NoError(t, a.Close())
}

type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }

// TestMemoryDoesNotGrow loads an image of 12 layers of 64 MiB, compressed with
// the largest window that is accepted, and looks at the heap.
func TestMemoryDoesNotGrow(t *testing.T) {
	const size, layers = 64 << 20, 12
	tar := make([]byte, size)
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(maxZstdWindow), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	require.NoError(t, err)
	var blob bytes.Buffer
	w.Reset(&blob)
	_, err = w.Write(tar) // as a stream: a frame that knows its size needs no window
	require.NoError(t, err)
	require.NoError(t, w.Close())
	id := digest.FromBytes(tar)
	l := newLayout(t)
	descs := []desc{}
	layer := l.blob("application/vnd.oci.image.layer.v1.tar+zstd", blob.Bytes())
	ids := []digest.Digest{}
	for range layers {
		descs, ids = append(descs, layer), append(ids, id)
	}
	config := l.blob("application/vnd.oci.image.config.v1+json", jsonOf(t, map[string]any{"os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}}))
	files := l.index(l.blob("application/vnd.oci.image.manifest.v1+json", jsonOf(t, map[string]any{"schemaVersion": 2, "config": config, "layers": descs})))
	path := writeFile(t, tarOf(t, files...))
	tar, w = nil, nil
	runtime.GC()

	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	a, err := Open(context.Background(), path, OpenOptions{})
	require.NoError(t, err)
	defer a.Close()
	s := newFakeStore()
	s.discard = true
	var peak uint64
	_, err = Load(context.Background(), s, a, LoadOptions{Progress: func(e Event) {
		if e.Finished {
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapInuse)
		}
	}})
	require.NoError(t, err)
	t.Logf("heap before %d MiB, at most %d MiB", before.HeapInuse>>20, peak>>20)
	require.Less(t, int64(peak)-int64(before.HeapInuse), int64(150<<20))
}
