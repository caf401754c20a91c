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
	tests := map[string]struct {
		text string
		want []call
		err  string
	}{
		"calls among other lines": {
			text: "time=2026-01-02T03:04:05.000Z level=INFO msg=\"serving Docker\" socket=/run/x.sock\n" +
				"time=2026-01-02T03:04:05.000Z level=DEBUG msg=call method=GraphDriver.Create took=1.5ms\n" +
				"time=2026-01-02T03:04:05.000Z level=DEBUG msg=call method=GraphDriver.Remove id=abc took=250µs error=\"not found\"\n",
			want: []call{{"GraphDriver.Create", 1500 * time.Microsecond}, {"GraphDriver.Remove", 250 * time.Microsecond}},
		},
		"a verb's time is no call": {text: "level=DEBUG msg=\"verb finished\" verb=serve took=3s\n"},
		"a call without a time":    {text: "level=DEBUG msg=begun method=GraphDriver.Get\n"},
		"nothing":                  {},
		"no duration":              {text: "method=GraphDriver.Get took=long\n", err: "took of GraphDriver.Get"},
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
	write("method=A took=1ms\nmethod=B to")
	calls, err := l.next()
	require.NoError(t, err)
	assert.Equal(t, []call{{"A", time.Millisecond}}, calls)
	write("ok=2ms took=2ms\n")
	calls, err = l.next()
	require.NoError(t, err)
	assert.Equal(t, 2*time.Millisecond, sum(calls))
	calls, err = l.next()
	require.NoError(t, err)
	assert.Empty(t, calls)
}
