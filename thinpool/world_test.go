package thinpool_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
)

// A world is a kernel with thin pools, a directory, and a count of what was asked of device-mapper. It checks at the
// test's end that no device and no loop device is left.
type world struct {
	t   *testing.T
	dm  *dm.Client
	dir string

	files []*os.File

	mu    sync.Mutex
	calls []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	client, err := dm.Open(dm.Options{Observer: func(c dm.Call) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.calls = append(w.calls, c.Command)
	}})
	if errors.Is(err, dm.ErrNotSupported) || errors.Is(err, dm.ErrPermission) {
		t.Skipf("no device-mapper in this kernel: %v", err)
	}
	require.NoError(t, err)
	if _, err := client.ProbeTarget(t.Context(), "thin-pool"); errors.Is(err, dm.ErrNotSupported) {
		t.Skipf("no thin pools in this kernel: %v", err)
	}
	w.dm = client
	before := w.leftovers()
	t.Cleanup(func() {
		left := func() []string { return without(w.leftovers(), before) }
		// A udev that looks at a device at this moment keeps it for that long.
		if len(left()) > 0 {
			assert.Eventually(t, func() bool { return len(left()) == 0 }, eventually, tick)
			require.Empty(t, left(), "devices are left")
		}
		require.NoError(t, client.Close())
	})
	return w
}

// without is a list less what is in another one.
func without(list, other []string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return slices.Contains(other, s) })
}

// leftovers names the device-mapper devices and loop devices of the kernel.
func (w *world) leftovers() []string {
	w.t.Helper()
	devices, err := w.dm.List(w.t.Context(), dm.Prefix{})
	if err != nil { // the test's context has ended
		devices, err = w.dm.List(contextOf(), dm.Prefix{})
	}
	require.NoError(w.t, err)
	var names []string
	for _, d := range devices {
		names = append(names, d.Name)
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	require.NoError(w.t, err)
	return append(names, loops...)
}

// called forgets what was asked before and runs f; it returns the commands that f sent, in order.
func (w *world) called(f func()) []string {
	w.mu.Lock()
	w.calls = nil
	w.mu.Unlock()
	f()
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.calls...)
}

func (w *world) options() thinpool.CreateOptions {
	return thinpool.CreateOptions{
		Config: thinpool.Config{
			Name: "bstest-" + strings.ToLower(w.t.Name()), Loopback: true,
			Data: filepath.Join(w.dir, "data"), Metadata: filepath.Join(w.dir, "metadata"), Tidy: filepath.Join(w.dir, "tidy"),
		},
		DataSize: 64 << 20, MetadataSize: 4 << 20,
	}
}

// pool makes a pool that is destroyed at the test's end.
func (w *world) pool(change ...func(*thinpool.CreateOptions)) *thinpool.Pool {
	w.t.Helper()
	o := w.options()
	for _, f := range change {
		f(&o)
	}
	p, err := thinpool.Create(w.t.Context(), w.dm, o)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { w.destroy(p.Config()) })
	return p
}

func (w *world) destroy(c thinpool.Config) {
	w.t.Helper()
	require.NoError(w.t, thinpool.Destroy(contextOf(), w.dm, c))
}

func (w *world) activate(p *thinpool.Pool, id dm.DeviceID) *os.File {
	w.t.Helper()
	d, err := p.Activate(w.t.Context(), id, thinpool.ActivateOptions{Size: 32 << 20})
	require.NoError(w.t, err)
	// Past the page cache, whose errors are all EIO. Large heap slices begin at a page.
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_DIRECT, 0)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { f.Close() })
	w.files = append(w.files, f)
	return f
}

// closeAll closes what activate opened.
func (w *world) closeAll() {
	for _, f := range w.files {
		f.Close()
	}
	w.files = nil
}

// fill writes n blocks of 64 KiB of one byte from block at on, durably.
func (w *world) fill(f *os.File, at, n int, b byte) error {
	if _, err := f.WriteAt(bytes.Repeat([]byte{b}, n<<16), int64(at)<<16); err != nil {
		return err
	}
	return f.Sync()
}

// first reads the first byte of a block of 64 KiB.
func (w *world) first(f *os.File, block int) byte {
	w.t.Helper()
	b := bytes.Repeat([]byte{1}, 1<<16)
	_, err := f.ReadAt(b, int64(block)<<16)
	require.NoError(w.t, err)
	return b[0]
}

// allocated is what a file occupies on its file system, in bytes.
func (w *world) allocated(path string) int64 {
	w.t.Helper()
	var st unix.Stat_t
	require.NoError(w.t, unix.Stat(path, &st))
	return st.Blocks * 512
}
