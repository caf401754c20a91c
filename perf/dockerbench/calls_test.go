package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseCalls(t *testing.T) {
	logTime := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := map[string]struct {
		text string
		want []call
		err  string
	}{
		"calls among other lines": {
			text: "time=2026-01-02T03:04:05.000Z level=INFO msg=\"serving Docker\" socket=/run/x.sock\n" +
				"time=2026-01-02T03:04:05.000Z level=DEBUG msg=call method=GraphDriver.Create took=1.5ms\n" +
				"time=2026-01-02T03:04:05.000Z level=DEBUG msg=call method=GraphDriver.Remove id=abc took=250µs error=\"not found\"\n",
			want: []call{
				{"GraphDriver.Create", logTime, 1500 * time.Microsecond},
				{"GraphDriver.Remove", logTime, 250 * time.Microsecond},
			},
		},
		"a verb's time is no call": {text: "level=DEBUG msg=\"verb finished\" verb=serve took=3s\n"},
		"a call without a time":    {text: "level=DEBUG msg=begun method=GraphDriver.Get\n"},
		"nothing":                  {},
		"no duration":              {text: "time=2026-01-02T03:04:05.000Z method=GraphDriver.Get took=long\n", err: "line about GraphDriver.Get"},
		"no time of day":           {text: "method=GraphDriver.Get took=1s\n", err: "line about GraphDriver.Get"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			calls, err := parseCalls(test.text)
			assert.Equal(t, test.want, calls)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
		})
	}
}

// FuzzParseCalls: no log makes it panic.
func FuzzParseCalls(f *testing.F) {
	f.Add("level=DEBUG msg=call method=GraphDriver.Create took=1.5ms\n")
	f.Add("method= took=\n")
	f.Fuzz(func(t *testing.T, text string) {
		calls, _ := parseCalls(text)
		for _, c := range calls {
			if c.method == "" && c.took == 0 {
				continue
			}
			assert.Contains(t, text, c.method)
		}
	})
}

// TestNext: each call is told once, and a line only when it is whole.
func TestNext(t *testing.T) {
	l := callLog{path: filepath.Join(t.TempDir(), "log")}
	write := func(text string) {
		f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = f.WriteString(text)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	const stamp = "time=2026-01-02T03:04:05.000Z "
	write(stamp + "method=A took=1ms\n" + stamp + "method=B to")
	calls, err := l.next()
	require.NoError(t, err)
	require.Len(t, calls, 1)
	assert.Equal(t, "A", calls[0].method)
	write("ok=2ms\n")
	calls, err = l.next()
	require.NoError(t, err)
	require.Len(t, calls, 1)
	assert.Equal(t, 2*time.Millisecond, calls[0].took)
	calls, err = l.next()
	require.NoError(t, err)
	assert.Empty(t, calls)
}

func TestBusy(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	// at makes a call from one millisecond to another.
	at := func(from, to int) call {
		return call{end: start.Add(time.Duration(to) * time.Millisecond), took: time.Duration(to-from) * time.Millisecond}
	}
	tests := map[string]struct {
		calls []call
		want  time.Duration // milliseconds
	}{
		"none":                     {nil, 0},
		"one after the other":      {[]call{at(0, 10), at(20, 25)}, 15},
		"in the log's other order": {[]call{at(20, 25), at(0, 10)}, 15},
		"at the same time":         {[]call{at(0, 10), at(5, 20)}, 20},
		"one within another":       {[]call{at(0, 100), at(5, 20), at(30, 40)}, 100},
		"waiting for each other":   {[]call{at(0, 10), at(0, 20), at(0, 30)}, 30},
		"rounded times":            {[]call{at(0, 10), at(9, 20)}, 21},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want*time.Millisecond, busy(test.calls)) })
	}
}
