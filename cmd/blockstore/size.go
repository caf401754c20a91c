package main

import (
	"fmt"

	"github.com/dustin/go-humanize"

	"blockstore.dev/blockstore/internal/size"
)

// sizeFlag is a size on the command line; 0 means that it was not given.
type sizeFlag int64

func (f *sizeFlag) Set(s string) error {
	n, err := size.Parse(s)
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
