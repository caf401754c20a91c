package size

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	good := map[string]int64{
		"1": 1, "512B": 512, "1k": 1 << 10, "1K": 1 << 10, "1KB": 1 << 10, "1KiB": 1 << 10, "10G": 10 << 30,
		"10 GiB": 10 << 30, "10gb": 10 << 30, "1.5G": 3 << 29, "0.5K": 512, "2T": 2 << 40, "1P": 1 << 50,
		" 7M ": 7 << 20, "9223372036854775807": 1<<63 - 1,
	}
	for in, want := range good {
		got, err := Parse(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	bad := []string{
		"", " ", "G", "-1G", "+1G", "0", "0G", "1.5", "1..5G", ".5G", "5.G", "10X", "10GG", "10iB", "1e3", "0x10", "10 G B",
		"9223372036854775808", "8192P", "ten", "1,5G", "1/2G", "NaN", "Inf",
	}
	for _, in := range bad {
		n, err := Parse(in)
		require.Error(t, err, "%q gave %d", in, n)
	}
}

// FuzzParse: whatever is typed, a size is positive or refused.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"10G", "1.5KiB", "", "-1", "99999999999P", "0.0000001K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Parse(s)
		if err == nil && n <= 0 {
			t.Fatalf("%q gave %d", s, n)
		}
	})
}
