package graphdriver

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// TestObserve: each call is told once, by the name of a method that there is, with its error.
func TestObserve(t *testing.T) {
	w := directories(t)
	var mu sync.Mutex
	told := map[string][]error{}
	w.observe = func(method string, took time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		told[method] = append(told[method], err)
		if took <= 0 {
			told[method] = append(told[method], errors.New("it took no time"))
		}
	}
	w.restart()
	w.must("Exists", request{ID: "none"}, nil)
	require.Error(t, w.call("Get", request{ID: "none"}, nil))
	w.post("/Plugin.Activate", nil)
	for _, path := range []string{"/GraphDriver.Nonsense", "/anything", "/GraphDriver.Exists/more"} {
		w.post(path, strings.NewReader("{}"))
	}
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told["Exists"]) == 1 && len(told["Get"]) == 1 && len(told["Plugin.Activate"]) == 1 && len(told["unknown"]) == 3
	}, 20*time.Second, time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, told, 4)
	require.NoError(t, told["Exists"][0])
	require.ErrorIs(t, told["Get"][0], snapshot.ErrNotFound)
	require.ErrorIs(t, told["unknown"][0], errUnknownMethod)
}
