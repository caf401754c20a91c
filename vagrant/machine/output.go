package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// startCopies copies the command's output files to stdout and stderr as they
// grow. The function that it returns copies the rest and waits.
func startCopies(work string) func() error {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, to := range []*os.File{os.Stdout, os.Stderr} {
		path := filepath.Join(work, []string{stdoutFile, stderrFile}[i])
		wg.Go(func() { errs[i] = follow(path, to, stop) })
	}
	return func() error {
		close(stop)
		wg.Wait()
		return errors.Join(errs...)
	}
}

// follow copies a growing file until stop is closed and its end is reached.
// The guest writes through, so what the command has written is in the file, and the
// kernel tells (inotify(7)): nobody looks again and again while a machine runs.
func follow(path string, to io.Writer, stop <-chan struct{}) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	written, err := watch(path)
	if err != nil {
		return fmt.Errorf("watching the command's output: %w", err)
	}
	defer written.Close()
	go func() {
		<-stop
		_ = written.SetReadDeadline(time.Now()) // fails when it is closed already
	}()
	events := make([]byte, 4096)
	for last := false; ; {
		if _, err := io.Copy(to, f); err != nil || last {
			return err
		}
		if _, err := written.Read(events); errors.Is(err, os.ErrDeadlineExceeded) {
			last = true
		} else if err != nil {
			return err
		}
	}
}

// watch gives a file from which something can be read whenever the one at path was written to.
func watch(path string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// tail is a writer that keeps the last bytes. It may be used from several
// goroutines.
type tail struct {
	limit int
	mu    sync.Mutex
	buf   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// lastLines returns at most n lines, indented for an error message.
func (t *tail) lastLines(n int) string {
	lines := strings.Split(strings.TrimSpace(string(t.bytes())), "\n")
	return "\t" + strings.Join(lines[max(0, len(lines)-n):], "\n\t")
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf)
}
