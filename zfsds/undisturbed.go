package zfsds

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// undisturbed runs fn on a thread that gets no signals; those to the process go to others. The
// module gives up with EINTR when its caller has a signal, of which Go's scheduler alone sends
// some, where it destroys snapshots, compares two, sends or receives. The signals that no thread
// can keep from itself are SIGKILL and SIGSTOP.
func undisturbed(fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return err
	}
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }() // what it was is valid
	return fn()
}
