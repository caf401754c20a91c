package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// rootLock is the store's lock, held until Close or until the process ends,
// however it ends.
type rootLock struct{ f *os.File }

// Close gives the lock back at once. Closing the file alone does so only with the
// last copy of its descriptor (flock(2)), and a child that some part of the process
// has forked and that has not come to its execve(2) yet has one.
func (l *rootLock) Close() error {
	return errors.Join(unix.Flock(int(l.f.Fd()), unix.LOCK_UN), l.f.Close())
}

// lockRoot takes the store's lock, the file Root/lock: one process has a store
// at a time. The file names its holder.
func lockRoot(ctx context.Context, root string, wait time.Duration, waiting func(string)) (*rootLock, error) {
	path := filepath.Join(root, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the store: %w", noSpace(err))
	}
	deadline := time.Now().Add(wait)
	told := false
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
		}
		holder := readHolder(path)
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("the store at %s is held by %s: %w", root, holder, ErrBusy), f.Close())
		}
		if !told && waiting != nil {
			waiting(holder)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(fmt.Sprintf("pid %d (%s)\n", os.Getpid(), commandLine())), 0)
	return &rootLock{f}, nil
}

func readHolder(path string) string {
	raw, err := os.ReadFile(path)
	if s := strings.TrimSpace(string(raw)); err == nil && s != "" {
		return s
	}
	return "another process"
}

func commandLine() string {
	args := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	s := strings.Join(args, " ")
	return s[:min(len(s), 200)]
}
