package perf

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// undoLimit bounds what takes something back.
const undoLimit = 90 * time.Second

// Undo is what has to be taken back, in the order in which it was made. The zero
// value is ready. It is one goroutine's.
type Undo struct {
	// Say, if set, tells a waiting person each step before it is done.
	Say   func(format string, args ...any)
	steps []undoStep
}

type undoStep struct {
	what string
	back func() error
}

// Add notes how what was just made is taken back.
func (u *Undo) Add(what string, back func() error) {
	u.steps = append(u.steps, undoStep{what, back})
}

// Run takes everything back, last first, and once. A step that fails stops no
// other.
func (u *Undo) Run() error {
	var errs []error
	for i := len(u.steps) - 1; i >= 0; i-- {
		if u.Say != nil {
			u.Say("cleaning up %s", u.steps[i].what)
		}
		if err := u.steps[i].back(); err != nil {
			errs = append(errs, fmt.Errorf("cleaning up %s: %w", u.steps[i].what, err))
		}
	}
	u.steps = nil
	return errors.Join(errs...)
}

// Undoing is the context of what takes something back: an interruption does not
// stop it, and it cannot hang for ever.
func Undoing() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), undoLimit)
}
