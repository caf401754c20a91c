package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestQueue: who comes later and takes longer goes first, and waiting ends with the end.
func TestQueue(t *testing.T) {
	q := newQueue()
	q.add(machineRun{pkg: "a", run: "^TestX$|^TestConformance$"}, machineRun{pkg: "a", run: "^TestConformance$"}, machineRun{pkg: "a"})
	q.add(machineRun{pkg: "b", run: "^TestConformance$"}, machineRun{pkg: "b", run: "^TestCrashExt4$"})
	var order []string
	take := func() {
		r, ok := q.next()
		require.True(t, ok)
		order = append(order, r.pkg+" "+r.run)
	}
	for range 4 {
		take()
	}
	require.Equal(t, []string{"b ^TestCrashExt4$", "a ^TestConformance$", "b ^TestConformance$", "a ^TestX$|^TestConformance$"}, order)
	q.close()
	take()
	_, ok := q.next()
	require.False(t, ok)

	q = newQueue()
	ended := make(chan bool)
	go func() {
		_, ok := q.next()
		ended <- ok
	}()
	q.close()
	require.False(t, <-ended)
}
