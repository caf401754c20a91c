package layertar_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"blockstore.dev/blockstore/snapshot/layertar"
)

// BenchmarkApply unpacks a layer of 5,000 files of mixed sizes, about 100 MiB.
func BenchmarkApply(b *testing.B) {
	layer := manyFiles(b, 5000)
	for _, split := range []bool{false, true} {
		name := "plain"
		if split {
			name = "split"
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(layer)))
			for b.Loop() {
				b.StopTimer()
				dir := b.TempDir()
				b.StartTimer()
				opts := layertar.ApplyOptions{}
				if split {
					opts.Split = io.Discard
				}
				if _, err := layertar.Apply(context.Background(), dir, bytes.NewReader(layer), opts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
