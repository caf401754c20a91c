package layertar_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var epoch = time.Unix(1700000000, 123456789)

// manyFiles makes a layer of n files in directories of 100.
func manyFiles(t testing.TB, n int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	put := func(h *tar.Header, data []byte) {
		h.Size, h.ModTime, h.Format = int64(len(data)), epoch, tar.FormatPAX
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if i%100 == 0 {
			put(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d%d/", i/100), Mode: 0o755}, nil)
		}
		size := rng.IntN(8 << 10)
		if i%50 == 0 {
			size = rng.IntN(len(noise))
		}
		put(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/f%d", i/100, i), Mode: 0o644}, noise[:size])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
