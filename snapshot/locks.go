package snapshot

import (
	"errors"
	"sync"
)

// errStop ends an iteration early; it never leaves the package.
var errStop = errors.New("stop")

// nameLocks are read-write locks by name. Where an operation takes several, it
// takes a parent's before its child's: the trees of names have no cycles, so
// neither has the waiting.
type nameLocks struct {
	mu    sync.Mutex
	locks map[string]*nameLock
}

type nameLock struct {
	sync.RWMutex
	holders int
}

func (n *nameLocks) hold(name string) *nameLock {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.locks == nil {
		n.locks = map[string]*nameLock{}
	}
	l := n.locks[name]
	if l == nil {
		l = &nameLock{}
		n.locks[name] = l
	}
	l.holders++
	return l
}

func (n *nameLocks) drop(name string, l *nameLock) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.holders--; l.holders == 0 {
		delete(n.locks, name)
	}
}

// write locks a name for one; the returned function unlocks it.
func (n *nameLocks) write(name string) func() {
	l := n.hold(name)
	l.Lock()
	return func() { l.Unlock(); n.drop(name, l) }
}

// read locks a name for many. The empty name needs no lock.
func (n *nameLocks) read(name string) func() {
	if name == "" {
		return func() {}
	}
	l := n.hold(name)
	l.RLock()
	return func() { l.RUnlock(); n.drop(name, l) }
}

// writeBoth locks two names for one. Neither need stand on the other, so there is no
// order in which others take them: it never waits for one while it has the other.
func (n *nameLocks) writeBoth(a, b string) func() {
	if a == b {
		return n.write(a)
	}
	for {
		unlock := n.write(a)
		l := n.hold(b)
		if l.TryLock() {
			return func() { l.Unlock(); n.drop(b, l); unlock() }
		}
		n.drop(b, l)
		unlock()
		a, b = b, a
	}
}

// claims are names that one transaction may remove: those that nobody else has
// locked. They stay write-locked until release.
type claims struct {
	locks *nameLocks
	held  map[string]func()
}

// claim locks a name without waiting. It says whether the name is the caller's.
func (c *claims) claim(name string) bool {
	if c.held[name] != nil {
		return true
	}
	l := c.locks.hold(name)
	if !l.TryLock() {
		c.locks.drop(name, l)
		return false
	}
	if c.held == nil {
		c.held = map[string]func(){}
	}
	c.held[name] = func() { l.Unlock(); c.locks.drop(name, l) }
	return true
}

func (c *claims) release() {
	for _, unlock := range c.held {
		unlock()
	}
	c.held = nil
}
