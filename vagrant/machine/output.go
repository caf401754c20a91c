package machine

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// copyInterval is how often new output is looked for.
const copyInterval = 20 * time.Millisecond

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
// The guest writes through, so what the command has written is in the file.
func follow(path string, to io.Writer, stop <-chan struct{}) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	tick := time.NewTicker(copyInterval)
	defer tick.Stop()
	for last := false; !last; {
		select {
		case <-stop:
			last = true
		case <-tick.C:
		}
		if _, err := io.Copy(to, f); err != nil {
			return err
		}
	}
	return nil
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
