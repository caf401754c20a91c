package main

import (
	"fmt"
	"math"
	"math/big"
	"strings"

	"github.com/dustin/go-humanize"
)

// parseSize reads a size that a person typed: a number and an optional unit. All
// units are binary, as Docker's are: 10G, 10GB and 10GiB are 10·2^30 bytes. The
// result is at least 1.
func parseSize(s string) (int64, error) {
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

// sizeFlag is a size on the command line; 0 means that it was not given.
type sizeFlag int64

func (f *sizeFlag) Set(s string) error {
	n, err := parseSize(s)
	*f = sizeFlag(n)
	return err
}

func (f *sizeFlag) String() string {
	if *f == 0 {
		return ""
	}
	return limit(int64(*f))
}

// Type names the flag's value in help texts.
func (f *sizeFlag) Type() string { return "SIZE" }

// amount prints how much there is of something. All output is in binary units,
// as all input is and as the drivers' rows are, and the unit says so (docker prints
// decimal ones): 1.2 MiB is 1.2·2^20 bytes.
func amount(n int64) string {
	if n < 0 {
		return "-" + amount(-n)
	}
	return humanize.IBytes(uint64(n))
}

// limit prints a bound; 0 is none.
func limit(n int64) string {
	if n <= 0 {
		return "none"
	}
	return amount(n)
}

// percent prints part of whole, "-" where there is no whole.
func percent(part, whole int64) string {
	if whole <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(part)/float64(whole))
}
