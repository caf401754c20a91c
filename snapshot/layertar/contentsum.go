package layertar

import (
	"encoding/binary"
	"hash/crc64"

	"github.com/vbatts/tar-split/tar/storage"
)

// contentSum is tar-split's sum of a file's content, CRC-64 by ISO 3309, as hash/crc64 has
// it and several times as fast: its polynomial, x^64+x^4+x^3+x+1, has so few terms that a
// word is reduced by a few shifts, and no table is needed.
type contentSum struct{ crc uint64 }

func (s *contentSum) reset() { s.crc = 0 }

// sum is big-endian, as hash/crc64's.
func (s *contentSum) sum() []byte { return binary.BigEndian.AppendUint64(nil, s.crc) }

func (s *contentSum) write(p []byte) {
	if len(p) >= 64 {
		s.crc, p = words(s.crc, p)
	}
	s.crc = crc64.Update(s.crc, storage.CRCTable, p)
}

// words sums as many of p's blocks of four words as there are, and returns what is left.
// Four sums run side by side, each of every fourth word, since one alone waits for itself.
//
// Bits are reversed: bit 63 of a word is the coefficient of x^0. So to multiply by x is to
// shift right, and what is shifted out belongs to x^64 and above.
func words(crc uint64, p []byte) (uint64, []byte) {
	a, b, c, d := ^crc, uint64(0), uint64(0), uint64(0)
	for first := true; len(p) >= 32; first = false {
		if !first {
			a, b, c, d = times256(a), times256(b), times256(c), times256(d)
		}
		a ^= binary.LittleEndian.Uint64(p)
		b ^= binary.LittleEndian.Uint64(p[8:])
		c ^= binary.LittleEndian.Uint64(p[16:])
		d ^= binary.LittleEndian.Uint64(p[24:])
		p = p[32:]
	}
	return ^times64(times64(times64(times64(a)^b)^c) ^ d), p
}

// times64 multiplies by x^64, which is x^4+x^3+x+1.
func times64(a uint64) uint64 {
	over := a<<60 ^ a<<61 ^ a<<63
	return a ^ a>>1 ^ a>>3 ^ a>>4 ^ over ^ over>>1 ^ over>>3 ^ over>>4
}

// times256 multiplies by x^256, which is x^16+x^12+x^4+1, the above squared twice.
func times256(a uint64) uint64 {
	over := a<<48 ^ a<<52 ^ a<<60
	return a ^ a>>4 ^ a>>12 ^ a>>16 ^ over ^ over>>1 ^ over>>3 ^ over>>4
}
