package graphdriver

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestIdleAfterLock: a layer that stays mounted is listed as soon as somebody else
// could lock it, also where who left it has not run on since.
func TestIdleAfterLock(t *testing.T) {
	r := refs{shown: func(string) bool { return false }}
	for range 20000 {
		x, unlock := r.lock("c")
		locked := make(chan struct{})
		go func() {
			x.stuck = true
			close(locked)
			unlock()
		}()
		<-locked
		_, again := r.lock("c")
		again()
		require.Equal(t, []string{"c"}, r.idle())
	}
}
