package main

import (
	"crypto/rand"
	"encoding/binary"
)

// newName invents a name for a container: 32 random bits as two words of
// alternating consonants and vowels ("lusab-babad"), which people can read out
// and type. Whether it is free is the store's to say.
func newName() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand, Read
	n := binary.BigEndian.Uint32(b[:])
	return word(uint16(n>>16)) + "-" + word(uint16(n))
}

// word spells 16 bits as consonant, vowel, consonant, vowel, consonant.
func word(n uint16) string {
	const consonants, vowels = "bdfghjklmnprstvz", "aiou"
	return string([]byte{
		consonants[n>>12&15], vowels[n>>10&3], consonants[n>>6&15], vowels[n>>4&3], consonants[n&15],
	})
}
