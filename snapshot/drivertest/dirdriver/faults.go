package dirdriver

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/failpoint"
)

// ErrInjected is the error of a step that was told to fail.
var ErrInjected = errors.New("injected fault")

// Faults watches a driver and makes it fail. It may be used by many goroutines.
type Faults struct {
	mu         sync.Mutex
	steps      int
	failAt     int
	failErr    error
	calls      []string
	violations []string
	inWork     map[snapshot.VolumeID]string
}

// FailAt lets the k-th step from now on fail with err, once; k counts from 1, and 0
// lets all succeed. A step is an instant before or within an operation.
func (f *Faults) FailAt(k int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps, f.failAt, f.failErr = 0, k, err
}

// Steps is how many steps were taken since the last FailAt.
func (f *Faults) Steps() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.steps
}

// Calls returns the driver calls since the last time it was asked, one line
// each, and forgets them.
func (f *Faults) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// Violations are breaches of the driver contract by the store.
func (f *Faults) Violations() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.violations)
}

func (f *Faults) call(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

// step may fail.
func (f *Faults) step(name string) error {
	failpoint.Hit("dir." + name)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps++
	if f.steps == f.failAt {
		return fmt.Errorf("step %d (%s): %w", f.steps, name, f.failErr)
	}
	return nil
}

// exclusive notes that an operation has the volume for itself until the
// returned function is called.
func (f *Faults) exclusive(op string, id snapshot.VolumeID) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if other := f.inWork[id]; other != "" {
		f.violations = append(f.violations, fmt.Sprintf("%s of volume %d during %s", op, id, other))
		return func() {}
	}
	if f.inWork == nil {
		f.inWork = map[snapshot.VolumeID]string{}
	}
	f.inWork[id] = op
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.inWork, id)
	}
}

func (f *Faults) violation(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.violations = append(f.violations, fmt.Sprintf(format, args...))
}
