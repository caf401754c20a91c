package perf

import (
	"os"
	"strings"

	"github.com/dustin/go-humanize"
)

// SizeInto reads a flag's size in powers of 1024, as blockstore's own flags do.
func SizeInto(p *int64) func(string) error {
	return func(s string) error {
		if strings.HasSuffix(s, "K") || strings.HasSuffix(s, "M") || strings.HasSuffix(s, "G") {
			s += "iB"
		}
		size, err := humanize.ParseBytes(s)
		*p = int64(size)
		return err
	}
}

// WorkDir is where a run works unless it is told: on a disk's file system, since
// loop devices want direct I/O.
func WorkDir() string {
	for _, dir := range []string{os.Getenv("BSTEST_DIR"), os.Getenv("TMPDIR")} {
		if dir != "" {
			return dir
		}
	}
	return "/var/tmp"
}
