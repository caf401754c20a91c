package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"blockstore.dev/blockstore/snapshot"
)

// The exit codes are an interface: docs/cli.md lists them, scripts rely on them.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitInUse    = 4
	exitNoSpace  = 5
	exitRepair   = 6
)

// usageError is a mistake in the command line itself. Nothing was done.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// outcome is what the world outside is told about an error: a code for scripts
// and a word for JSON.
type outcome struct {
	code int
	kind string
}

// outcomes are in the order of precedence: a joined error that holds several
// sentinels is told as the gravest of them.
func outcomes() []struct {
	is error
	outcome
} {
	return []struct {
		is error
		outcome
	}{
		{snapshot.ErrUnconfirmed, outcome{exitUsage, "not confirmed"}},
		{snapshot.ErrCorrupt, outcome{exitRepair, "needs repair"}},
		{snapshot.ErrNoSpace, outcome{exitNoSpace, "no space"}},
		{syscall.ENOSPC, outcome{exitNoSpace, "no space"}},
		{syscall.EDQUOT, outcome{exitNoSpace, "no space"}},
		{snapshot.ErrBusy, outcome{exitInUse, "in use"}},
		{snapshot.ErrNotFound, outcome{exitNotFound, "not found"}},
		{snapshot.ErrExists, outcome{exitFailed, "already exists"}},
		{snapshot.ErrReadOnly, outcome{exitFailed, "read-only"}},
		{snapshot.ErrNotSupported, outcome{exitFailed, "not supported"}},
		{snapshot.ErrInvalid, outcome{exitFailed, "invalid"}},
		{context.Canceled, outcome{exitFailed, "interrupted"}},
	}
}

// outcomeOf is the only place where errors become exit codes.
func outcomeOf(err error) outcome {
	if err == nil {
		return outcome{exitDone, ""}
	}
	var u usageError
	if errors.As(err, &u) {
		return outcome{exitUsage, "usage"}
	}
	for _, o := range outcomes() {
		if errors.Is(err, o.is) {
			return o.outcome
		}
	}
	return outcome{exitFailed, "failed"}
}
