package zfs

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"blockstore.dev/blockstore/internal/durable"
	"blockstore.dev/blockstore/snapshot/failpoint"
)

// tidiness remembers over a clean stop that nothing half-made is in the store's dataset, so that the next Open does not
// ask for each volume and its snapshots. A file says it: it is there only while nothing was changed since. Its methods
// may be called by many goroutines at once.
type tidiness struct {
	note string // the file

	mu    sync.Mutex
	noted bool // the file is there
	doubt bool // something may be half-made, or was left for the next Open
}

// look says whether the last stop was a clean one. Until it was called, or settled, the dataset is in doubt.
func (t *tidiness) look() (tidy bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err = os.Stat(t.note)
	t.noted = err == nil
	t.doubt = !t.noted
	return t.noted, absentIsFine(err)
}

// untouched says that nothing was changed since a clean stop.
func (t *tidiness) untouched() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.noted
}

// settled: what there was has been cleared away.
func (t *tidiness) settled() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubt = false
}

// begin is for whoever is about to make, rename or destroy something: a crash from now on may leave a half of it.
func (t *tidiness) begin() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.noted {
		return nil
	}
	err := absentIsFine(os.Remove(t.note)) // by an earlier try that could not wait for it, or by somebody
	if err == nil {
		err = durable.Dir(filepath.Dir(t.note))
	}
	if err != nil {
		return fmt.Errorf("zfs: taking note of a change: %w", err)
	}
	t.noted = false
	failpoint.Hit("zfs: change noted, not begun")
	return nil
}

// left: something is there that the next Open has to look at.
func (t *tidiness) left() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubt = true
}

// leftIf is left where an operation failed.
func (t *tidiness) leftIf(err *error) {
	if *err != nil {
		t.left()
	}
}

// end is for a clean stop. The file is not waited for, and where it cannot be made, as on a full disk, the stop is none the
// worse: without it the next Open looks.
func (t *tidiness) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.noted || t.doubt {
		return
	}
	t.noted = os.WriteFile(t.note, nil, 0o600) == nil
}
