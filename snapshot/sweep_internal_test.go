package snapshot

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPauseEnds: a pause of a sweep in the background ends when somebody comes to wait for the sweep, and none begins
// while he waits.
func TestPauseEnds(t *testing.T) {
	w := sweeping{wake: make(chan struct{}, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.pause(time.Hour) // the test's own time limit is shorter
	}()
	done := w.hurried()
	<-ended
	w.pause(time.Hour)
	done()
	require.Zero(t, w.hurry.Load())
}

func TestPauseAfter(t *testing.T) {
	require.Equal(t, sweepPause, pauseAfter(0))
	require.Equal(t, 40*time.Millisecond, pauseAfter(2*time.Millisecond))
	require.Equal(t, longestSweepPause, pauseAfter(time.Minute))
}
