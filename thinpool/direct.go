package thinpool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
)

const (
	chunkSize = 64 << 10
	// chunkCount bounds what is kept, at 16 MiB; memory is taken only for what is read.
	chunkCount = 256
	// idleChunks are kept in all for who reads next: for a look at a few devices no memory is asked of the kernel, which
	// clears it page by page.
	idleChunks = 16
)

// directReader reads a block device past the page cache, through which the kernel's own writes of the metadata do not
// go, in chunks, and keeps some of them: nodes that belong together lie together. What it has once read it does not
// see change. The first chunk, with the superblock, is never kept.
type directReader struct {
	f *os.File

	mu    sync.Mutex
	slots [chunkCount]slot
}

// slot says which chunk is in a piece of memory, and how much of one at the device's end.
type slot struct {
	memory []byte // nil until it is needed
	chunk  int64
	n      int
}

func openDirect(path string) (*directReader, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reading metadata: %w", err)
	}
	return &directReader{f: f}, nil
}

func (r *directReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.f.Close()
	for i := range r.slots {
		if memory := r.slots[i].memory; memory != nil {
			err = errors.Join(err, idle.give(memory))
		}
		r.slots[i] = slot{}
	}
	return err
}

// forget has everything read anew.
func (r *directReader) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.slots {
		r.slots[i].n = 0
	}
}

// idle are the chunks' memory that nobody uses.
var idle chunkMemory

// chunkMemory is memory for chunks, aligned to pages as direct I/O wants it.
type chunkMemory struct {
	mu   sync.Mutex
	free [][]byte
}

func (m *chunkMemory) take() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last := len(m.free) - 1; last >= 0 {
		memory := m.free[last]
		m.free = m.free[:last]
		return memory, nil
	}
	memory, err := unix.Mmap(-1, 0, chunkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("reading metadata: memory: %w", err)
	}
	return memory, nil
}

func (m *chunkMemory) give(memory []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.free) < idleChunks {
		m.free = append(m.free, memory)
		return nil
	}
	return unix.Munmap(memory)
}

// ReadAt reads within one chunk.
func (r *directReader) ReadAt(b []byte, at int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	chunk := at / chunkSize
	s := &r.slots[chunk%chunkCount]
	if s.memory == nil {
		memory, err := idle.take()
		if err != nil {
			return 0, err
		}
		s.memory = memory
	}
	if s.chunk != chunk || s.n == 0 || chunk == 0 {
		n, err := r.f.ReadAt(s.memory, chunk*chunkSize)
		s.chunk, s.n = chunk, n
		if err != nil && !errors.Is(err, io.EOF) {
			s.n = 0
			return 0, err
		}
	}
	from := int(at % chunkSize)
	if from >= s.n {
		return 0, io.EOF
	}
	n := copy(b, s.memory[from:s.n])
	if n < len(b) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

// blockDevicePath is the node of a block device, as the kernel names it in devtmpfs.
func blockDevicePath(n dm.Number) (string, error) {
	target, err := os.Readlink(filepath.Join("/sys/dev/block", n.String()))
	if err != nil {
		return "", fmt.Errorf("looking for block device %s: %w", n, err)
	}
	path := "/dev/" + strings.ReplaceAll(filepath.Base(target), "!", "/")
	found, err := dm.BlockDeviceNumber(path)
	if err != nil {
		return "", err
	}
	if found != n {
		return "", fmt.Errorf("looking for block device %s: %s is %s", n, path, found)
	}
	return path, nil
}
