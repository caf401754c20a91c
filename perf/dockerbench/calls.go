package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// call is one call of the plugin as its server's log tells it.
type call struct {
	method string
	took   time.Duration
}

// logSettle is how long a server may take to log a call that it has answered.
const logSettle = 50 * time.Millisecond

// callLog reads a server's log as it grows.
type callLog struct {
	path string
	at   int64 // what was read already
}

// next returns the calls since the last time.
func (l *callLog) next() ([]call, error) {
	time.Sleep(logSettle)
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
		d, err := time.ParseDuration(took)
		if err != nil {
			errs = append(errs, fmt.Errorf("the log's field took of %s: %w", method, err))
			continue
		}
		calls = append(calls, call{method, d})
	}
	return calls, errors.Join(errs...)
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

// sum is the time that the calls took together. Calls that ran at the same time
// count each.
func sum(calls []call) time.Duration {
	var all time.Duration
	for _, c := range calls {
		all += c.took
	}
	return all
}
