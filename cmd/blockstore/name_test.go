package main

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNewName(t *testing.T) {
	require.Equal(t, "babab", word(0))
	require.Equal(t, "zuzuz", word(0xffff))
	seen := map[string]bool{}
	for range 1000 {
		n := newName()
		require.Regexp(t, regexp.MustCompile(`^[a-z]{5}-[a-z]{5}$`), n)
		seen[n] = true
	}
	require.Greater(t, len(seen), 990, "names repeat")
	words := map[string]bool{}
	for i := range 1 << 16 {
		words[word(uint16(i))] = true
	}
	require.Len(t, words, 1<<16, "two numbers have one word")
}
