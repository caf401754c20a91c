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

// lockRoot takes the store's lock, the file Root/lock: one process has a store
// at a time. The file names its holder. The kernel drops the lock when the
// process ends, however it ends.
func lockRoot(ctx context.Context, root string, wait time.Duration, waiting func(string)) (*os.File, error) {
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
	return f, nil
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
