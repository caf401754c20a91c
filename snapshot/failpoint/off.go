//go:build !failpoints

package failpoint

// Enabled says whether this build has the steps marked.
const Enabled = false

// Hit marks a step. In an ordinary build it does nothing.
func Hit(string) {}

// Leave says whether a step is to be left out: in an ordinary build, none.
func Leave(string) bool { return false }

// Most says how many of n things that are alike to do: in an ordinary build, all.
func Most(n int) int { return n }
