package main

import (
	"slices"
	"strings"
	"sync"
)

// queue holds what machines are to run, those that take longest first. It is safe for concurrent use.
type queue struct {
	mu      sync.Mutex
	changed sync.Cond
	waiting []machineRun
	closed  bool
}

func newQueue() *queue {
	q := &queue{}
	q.changed.L = &q.mu
	return q
}

// add puts in more, before those that wait already and take less time.
func (q *queue) add(runs ...machineRun) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, runs...)
	slices.SortStableFunc(q.waiting, func(a, b machineRun) int { return a.rank() - b.rank() })
	q.changed.Broadcast()
}

// close says that no more come.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Broadcast()
}

// next waits for one, and is false when there is none and none to come.
func (q *queue) next() (machineRun, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && !q.closed {
		q.changed.Wait()
	}
	if len(q.waiting) == 0 {
		return machineRun{}, false
	}
	first := q.waiting[0]
	q.waiting = q.waiting[1:]
	return first, true
}

// rank is the place in which it begins: the crash programmes take longest of all, and begun last they would run alone at
// the end; then what has a machine of its own for the time that it takes.
func (r machineRun) rank() int {
	switch {
	case strings.HasPrefix(r.run, "^TestCrash"):
		return 0
	case alone.MatchString(r.run):
		return 1
	}
	return 2
}
