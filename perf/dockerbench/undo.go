package main

import (
	"errors"
	"fmt"
)

// undo is what has to be taken back, in the order in which it was made.
type undo struct{ steps []undoStep }

type undoStep struct {
	what string
	back func() error
}

func (u *undo) add(what string, back func() error) {
	u.steps = append(u.steps, undoStep{what, back})
}

// run takes everything back, last first. A step that fails stops no other.
func (u *undo) run() error {
	var errs []error
	for i := len(u.steps) - 1; i >= 0; i-- {
		say("cleaning up %s", u.steps[i].what)
		if err := u.steps[i].back(); err != nil {
			errs = append(errs, fmt.Errorf("cleaning up %s: %w", u.steps[i].what, err))
		}
	}
	u.steps = nil
	return errors.Join(errs...)
}
