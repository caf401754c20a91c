package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseSize(t *testing.T) {
	good := map[string]int64{
		"1": 1, "512B": 512, "1k": 1 << 10, "1K": 1 << 10, "1KB": 1 << 10, "1KiB": 1 << 10, "10G": 10 << 30,
		"10 GiB": 10 << 30, "10gb": 10 << 30, "1.5G": 3 << 29, "0.5K": 512, "2T": 2 << 40, "1P": 1 << 50,
		" 7M ": 7 << 20, "9223372036854775807": 1<<63 - 1,
	}
	for in, want := range good {
		got, err := parseSize(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	bad := []string{
		"", " ", "G", "-1G", "+1G", "0", "0G", "1.5", "1..5G", ".5G", "5.G", "10X", "10GG", "10iB", "1e3", "0x10", "10 G B",
		"9223372036854775808", "8192P", "ten", "1,5G", "1/2G", "NaN", "Inf",
	}
	for _, in := range bad {
		n, err := parseSize(in)
		require.Error(t, err, "%q gave %d", in, n)
	}
}

// FuzzParseSize: whatever is typed, a size is positive or refused.
func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"10G", "1.5KiB", "", "-1", "99999999999P", "0.0000001K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err == nil && n <= 0 {
			t.Fatalf("%q gave %d", s, n)
		}
	})
}

func TestSizesForPeople(t *testing.T) {
	require.Equal(t, "1.2 MiB", amount(1_258_291))
	require.Equal(t, "-1.2 MiB", amount(-1_258_291))
	require.Equal(t, "0 B", amount(0))
	require.Equal(t, "10 GiB", limit(10<<30))
	require.Equal(t, "none", limit(0))
	require.Equal(t, "50.0%", percent(1, 2))
	require.Equal(t, "-", percent(1, 0))
}
