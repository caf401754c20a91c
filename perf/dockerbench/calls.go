package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// call is one call of the plugin as its server's log tells it.
type call struct {
	method string
	end    time.Time
	took   time.Duration
}

// logSettle is how long a server may take to log a call that it has answered.
const logSettle = 50 * time.Millisecond

// callLog reads a server's log as it grows.
type callLog struct {
	path string
	at   int64 // what was read already
}

// next returns the calls since the last time. Those that ended less than logSettle ago
// may be missing.
func (l *callLog) next() ([]call, error) {
	f, err := os.Open(l.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(l.at, io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	// A line that is still being written is for the next time.
	whole := text[:strings.LastIndexByte(string(text), '\n')+1]
	l.at += int64(len(whole))
	return parseCalls(string(whole))
}

// parseCalls reads the lines of slog's text handler that have a method and the
// time that it took. Other lines are of no interest.
func parseCalls(text string) ([]call, error) {
	var calls []call
	var errs []error
	for line := range strings.Lines(text) {
		method, ok := attribute(line, "method")
		took, timed := attribute(line, "took")
		if !ok || !timed {
			continue
		}
		c, err := parseCall(line, method, took)
		if err != nil {
			errs = append(errs, fmt.Errorf("the log's line about %s: %w", method, err))
			continue
		}
		calls = append(calls, c)
	}
	return calls, errors.Join(errs...)
}

func parseCall(line, method, took string) (call, error) {
	c := call{method: method}
	logged, _ := attribute(line, "time")
	var bad, worse error
	c.end, bad = time.Parse(time.RFC3339Nano, logged)
	c.took, worse = time.ParseDuration(took)
	return c, errors.Join(bad, worse)
}

// attribute finds a field whose value needs no quotes.
func attribute(line, name string) (string, bool) {
	for _, field := range strings.Fields(line) {
		if value, ok := strings.CutPrefix(field, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// logPrecision is how exact a log line's own time is.
const logPrecision = time.Millisecond

// busy is the time in which at least one of the calls ran. dockerd removes several
// containers at once: the calls' sum is mostly their waiting for each other. An
// overlap within the precision of the log is taken for none.
func busy(calls []call) time.Duration {
	begin := func(c call) time.Time { return c.end.Add(-c.took) }
	sorted := slices.SortedFunc(slices.Values(calls), func(a, b call) int { return begin(a).Compare(begin(b)) })
	var all time.Duration
	var covered time.Time
	for _, c := range sorted {
		switch overlap := covered.Sub(begin(c)); {
		case overlap <= logPrecision:
			all += c.took
		case overlap < c.took:
			all += c.took - overlap
		}
		if c.end.After(covered) {
			covered = c.end
		}
	}
	return all
}
