package thinpool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
)

// errNotCounted: the kernel was told not to count a device's reads and writes, or does not say how many there were.
var errNotCounted = errors.New("writes are not counted")

// meter reads what was ever read from a block device and written to it, from the device's files in sysfs (Linux,
// Documentation/block/stat.rst). It keeps those open, since opening them takes as long as what is measured: a look at a
// pool's metadata. It is safe for concurrent use.
type meter struct {
	mu            sync.Mutex
	of            dm.Number
	counted, stat *os.File // nil while closed
}

// sectorsWritten is what was ever written to a device. The kernel counts a write before it tells who waits for it.
func (m *meter) sectorsWritten(n dm.Number) (uint64, error) { return m.sum(n, 6) }

// transfers is how often a device was read or written, discards and flushes left out.
func (m *meter) transfers(n dm.Number) (uint64, error) { return m.sum(n, 0, 4) }

// sum adds fields of a device's stat file up. A device that is gone, and one that has its number since, are opened anew.
func (m *meter) sum(n dm.Number, of ...int) (sum uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fields, err := m.read(n)
	if errors.Is(err, unix.ENODEV) {
		fields, err = m.read(n)
	}
	if err != nil {
		return 0, err
	}
	for _, i := range of {
		if i >= len(fields) {
			return 0, fmt.Errorf("%w: stat of %s reads %q", errNotCounted, n, fields)
		}
		field, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: stat of %s: %w", errNotCounted, n, err)
		}
		sum += field
	}
	return sum, nil
}

func (m *meter) read(n dm.Number) (fields []string, err error) {
	if m.of != n || m.stat == nil {
		m.shut()
		if err := m.open(n); err != nil {
			return nil, errors.Join(errNotCounted, err)
		}
	}
	on, err := readStart(m.counted)
	if err == nil && on != "1" {
		return nil, errNotCounted
	}
	var text string
	if err == nil {
		text, err = readStart(m.stat)
	}
	if err != nil {
		m.shut()
		return nil, errors.Join(errNotCounted, err)
	}
	return strings.Fields(text), nil
}

func (m *meter) open(n dm.Number) (err error) {
	dir := filepath.Join("/sys/dev/block", n.String())
	m.of = n
	m.counted, err = os.Open(filepath.Join(dir, "queue", "iostats"))
	if errors.Is(err, os.ErrNotExist) { // a partition: its disk has the queue
		m.counted, err = os.Open(dir + "/../queue/iostats")
	}
	if err == nil {
		m.stat, err = os.Open(filepath.Join(dir, "stat"))
	}
	return err
}

// close gives the files back; the next use opens them again.
func (m *meter) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shut()
}

func (m *meter) shut() {
	for _, f := range []**os.File{&m.counted, &m.stat} {
		if *f != nil {
			_ = (*f).Close() // of a file that was read
			*f = nil
		}
	}
}

// readStart reads a file of sysfs, which is shorter than this and made anew by each read at its beginning: a second read,
// for the end, could find another text's.
func readStart(f *os.File) (string, error) {
	b := make([]byte, 512)
	n, err := unix.Pread(int(f.Fd()), b, 0)
	return strings.TrimSpace(string(b[:max(n, 0)])), err
}
