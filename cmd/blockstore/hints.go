package main

import (
	"context"
	"errors"
	"fmt"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/thinpool"
)

// mended is an error that already says how a person can mend it.
type mended struct {
	err  error
	mend string
}

func (e mended) Error() string { return e.err.Error() }
func (e mended) Unwrap() error { return e.err }

// mendf adds how to mend it to an error.
func mendf(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return mended{err, fmt.Sprintf(format, args...)}
}

// errNotRoot: devices, mounts and other people's files need root.
var errNotRoot = errors.New("must be root")

// mendOf says how the error can be mended, or "" if nobody can tell. A hint given
// where the error arose wins, since it knows the names; the rest depends on the
// kind of error alone.
func mendOf(err error, root string) string {
	var m mended
	flag := ""
	if root != defaultRoot {
		flag = " --root " + root
	}
	switch {
	case err == nil:
		return ""
	case errors.As(err, &m):
		return m.mend
	case errors.Is(err, errNotRoot):
		return "run it as root, e.g. with sudo"
	case errors.Is(err, thinpool.ErrNeedsCheck), errors.Is(err, thinpool.ErrFailed), errors.Is(err, thinpool.ErrCorrupt), errors.Is(err, thinpool.ErrNotFormatted):
		return repairCommand(root)
	case errors.Is(err, snapshot.ErrCorrupt):
		return fmt.Sprintf("see what is wrong with: blockstore%s check; then: blockstore%s check --repair", flag, flag)
	case errors.Is(err, thinpool.ErrWornOut):
		return fmt.Sprintf("nothing that is there is lost; move it to a new store: blockstore%s save -o FILE IMAGE... and export -o FILE CONTAINER, then load and import there", flag)
	case errors.Is(err, snapshot.ErrNoSpace):
		return fmt.Sprintf("remove containers or images (rm, rmi, gc), or enlarge the store: blockstore%s pool extend SIZE", flag)
	case errors.Is(err, context.Canceled):
		return "interrupted; what was half done has been undone, or will be when the store is opened next"
	}
	return ""
}
