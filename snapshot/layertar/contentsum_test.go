package layertar

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vbatts/tar-split/tar/storage"
)

// TestContentSum: the same as hash/crc64, for every length and in any pieces.
func TestContentSum(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	all := make([]byte, 5000)
	for i := range all {
		all[i] = byte(chance.Uint32())
	}
	clear(all[1000:2000])
	for n := range len(all) {
		var got contentSum
		want := crc64.New(storage.CRCTable)
		for p := all[:n]; len(p) > 0; {
			k := 1 + chance.IntN(len(p))
			got.write(p[:k])
			want.Write(p[:k])
			p = p[k:]
		}
		require.Equal(t, want.Sum(nil), got.sum(), "of %d bytes", n)
	}
	s := contentSum{crc: 1}
	s.reset()
	require.Equal(t, make([]byte, 8), s.sum())
}

func BenchmarkContentSum(b *testing.B) {
	p := make([]byte, contentBuffer)
	b.SetBytes(contentBuffer)
	var s contentSum
	for b.Loop() {
		s.write(p)
	}
}

func BenchmarkContentSumByTable(b *testing.B) {
	p := make([]byte, contentBuffer)
	b.SetBytes(contentBuffer)
	s := crc64.New(storage.CRCTable)
	for b.Loop() {
		s.Write(p)
	}
}
