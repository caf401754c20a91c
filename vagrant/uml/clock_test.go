package main

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// inside is the environment variable that says that the test runs in the machine.
const inside = "BLOCKSTORE_TEST_INSIDE"

// TestClocks: what programs read, which may be the host's, and what the machine's kernel goes by are one time.
func TestClocks(t *testing.T) {
	if os.Getenv(inside) == "" {
		status, stdout, stderr := newWorld(t).Run(t, "-e", inside+"=1", "--", os.Args[0], "-test.run=^TestClocks$", "-test.v")
		require.Zero(t, status, stdout+stderr)
		require.Contains(t, stdout, "--- PASS: TestClocks")
		return
	}
	for _, clock := range []struct {
		name         string
		read, kernel int32
	}{
		{"real time", unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_COARSE},
		{"monotonic", unix.CLOCK_MONOTONIC, unix.CLOCK_MONOTONIC_COARSE},
		{"since boot", unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME},
	} {
		least := time.Hour
		for begun := time.Now(); time.Since(begun) < 50*time.Millisecond; { // many of its ticks
			kernel := read(t, clock.kernel)
			behind := read(t, clock.read) - kernel
			require.GreaterOrEqual(t, behind, time.Duration(0), "%s: the kernel is ahead", clock.name)
			least = min(least, behind)
		}
		assert.Less(t, least, 5*time.Millisecond, "%s: the kernel is behind", clock.name)
	}
	until := read(t, unix.CLOCK_MONOTONIC) + 5*time.Millisecond
	at := unix.NsecToTimespec(int64(until))
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &at, nil) == unix.EINTR {
	}
	late := read(t, unix.CLOCK_MONOTONIC) - until
	require.GreaterOrEqual(t, late, time.Duration(0), "a timer that goes off too early")
	require.Less(t, late, time.Second)
}

func read(t *testing.T, clock int32) time.Duration {
	t.Helper()
	var ts unix.Timespec
	require.NoError(t, unix.ClockGettime(clock, &ts))
	return time.Duration(ts.Nano())
}
