//go:build failpoints

package failpoint

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Enabled says whether this build has the steps marked.
const Enabled = true

var hits atomic.Int64

// Hit marks a step and kills the process if it is the one asked for.
func Hit(name string) {
	n := hits.Add(1)
	if log := os.Getenv("BLOCKSTORE_FAILPOINT_LOG"); log != "" {
		if f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			_, _ = f.WriteString(name + "\n")
			_ = f.Close()
		}
	}
	want := os.Getenv("BLOCKSTORE_FAILPOINT")
	if at, err := strconv.ParseInt(want, 10, 64); err == nil && at == n || want == name {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}

// Leave says whether a step is to be left out.
func Leave(name string) bool {
	return slices.Contains(strings.Split(os.Getenv("BLOCKSTORE_FAILPOINT_LEAVE"), ","), name)
}

// Most says how many of n things that are alike to do.
func Most(n int) int {
	if most, err := strconv.Atoi(os.Getenv("BLOCKSTORE_FAILPOINT_MOST")); err == nil {
		return min(n, most)
	}
	return n
}
