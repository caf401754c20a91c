package layertar

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Somebody may write to upper while it is compared. Each path is then told as it was at one moment of the comparison: what was
// listed and is gone when it is looked at was gone before.

// mostLooks bounds how often a path is looked at that becomes something else each time.
const mostLooks = 10

// belowError is the error of something in a directory, which has been looked at again already.
type belowError struct{ error }

func (e belowError) Unwrap() error { return e.error }

// visitNow visits a pair. Where that fails since upper has something else there by now, or nothing, it is that which counts.
func (c *comparer) visitNow(dir, p pair) error {
	for looks := 1; p.upper.there; looks++ {
		visit := c.visit
		if p.upper.isSocket() {
			visit = c.visitSocket
		}
		err := visit(dir, p)
		if err == nil || errors.As(err, new(belowError)) || looks == mostLooks {
			return err
		}
		now, lookErr := inspect(dir.upper.fd, baseName(p.path))
		switch {
		case lookErr != nil && !errors.Is(lookErr, ErrChanged):
			return lookErr
		case now.there && !p.alike && sameState(&now.st, &p.upper.st):
			return err
		}
		p.upper = now
		if p.alike {
			p.alike = false
			if p.lower, err = inspect(dir.lower.fd, baseName(p.path)); err != nil {
				return err
			}
		}
		if !now.there || now.isSocket() {
			c.deletions(dir, []pair{p}, 1)
		}
	}
	return nil
}

// sameState says that nothing was done to a file between two looks at its name.
func sameState(a, b *unix.Stat_t) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Mode == b.Mode && a.Ctim == b.Ctim
}
