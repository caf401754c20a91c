package size

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

// Parse reads a size that a person typed: a number and an optional unit. All
// units are binary, as Docker's are: 10G, 10GB and 10GiB are 10·2^30 bytes. The
// result is at least 1.
func Parse(s string) (int64, error) {
	text := strings.TrimSpace(s)
	end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(text)
	}
	number, unit := text[:end], strings.TrimSpace(text[end:])
	shift, ok := unitShift(unit)
	if !ok {
		return 0, fmt.Errorf("size %q: unknown unit %q (B, K, M, G, T or P; all are powers of 1024)", s, unit)
	}
	r, ok := new(big.Rat).SetString(number)
	if number == "" || strings.HasPrefix(number, ".") || strings.HasSuffix(number, ".") || !ok {
		return 0, fmt.Errorf("size %q: it must begin with a number, as in 10G", s)
	}
	r.Mul(r, new(big.Rat).SetInt64(1<<shift))
	if !r.IsInt() {
		return 0, fmt.Errorf("size %q: not a whole number of bytes", s)
	}
	if r.Sign() <= 0 {
		return 0, fmt.Errorf("size %q: it must be more than nothing", s)
	}
	if r.Num().Cmp(big.NewInt(math.MaxInt64)) > 0 {
		return 0, fmt.Errorf("size %q: more than a file can hold", s)
	}
	return r.Num().Int64(), nil
}

// unitShift turns "", B, K, KB, KiB and so on into a power of two.
func unitShift(unit string) (uint, bool) {
	u := strings.ToUpper(unit)
	if u == "" || u == "B" {
		return 0, true
	}
	i := strings.IndexByte("KMGTP", u[0])
	if i < 0 || (u[1:] != "" && u[1:] != "B" && u[1:] != "IB") {
		return 0, false
	}
	return uint(i+1) * 10, true
}
