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
)

// directReader reads a block device past the page cache, through which the kernel's own writes of the metadata do not
// go, in chunks, and keeps some of them: nodes that belong together lie together. What it has once read it does not
// see change. The first chunk, with the superblock, is never kept.
type directReader struct {
	f      *os.File
	memory []byte // chunkCount chunks, aligned to pages

	mu    sync.Mutex
	slots [chunkCount]slot
}

// slot says which chunk is in a place of the memory, and how much of one at the device's end.
type slot struct {
	chunk int64
	n     int
}

func openDirect(path string) (*directReader, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reading metadata: %w", err)
	}
	memory, err := unix.Mmap(-1, 0, chunkSize*chunkCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading metadata of %s: memory: %w", path, err), f.Close())
	}
	return &directReader{f: f, memory: memory}, nil
}

func (r *directReader) Close() error {
	return errors.Join(unix.Munmap(r.memory), r.f.Close())
}

// forget has everything read anew.
func (r *directReader) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.slots[:])
}

// ReadAt reads within one chunk.
func (r *directReader) ReadAt(b []byte, at int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	chunk := at / chunkSize
	s := &r.slots[chunk%chunkCount]
	memory := r.memory[chunk%chunkCount*chunkSize:][:chunkSize]
	if s.chunk != chunk || s.n == 0 || chunk == 0 {
		n, err := r.f.ReadAt(memory, chunk*chunkSize)
		*s = slot{chunk, n}
		if err != nil && !errors.Is(err, io.EOF) {
			*s = slot{}
			return 0, err
		}
	}
	from := int(at % chunkSize)
	if from >= s.n {
		return 0, io.EOF
	}
	n := copy(b, memory[from:s.n])
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
