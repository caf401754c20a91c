package ioctl_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"blockstore.dev/blockstore/ioctl"
	"github.com/stretchr/testify/require"
)

// needLoop skips where loop devices cannot be made; on a machine with loop devices the tests run.
func needLoop(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("no loop devices in this kernel")
	}
}

func sparse(t *testing.T, dir string, size int64) string {
	t.Helper()
	path := filepath.Join(dir, "bstest.img")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
	return path
}

func TestLoopAttachFindGrowDetach(t *testing.T) {
	needLoop(t)
	path := sparse(t, t.TempDir(), 4<<20)
	_, err := ioctl.FindLoop(path)
	require.ErrorIs(t, err, ioctl.ErrLoopNotFound)

	l, err := ioctl.AttachLoop(t.Context(), path, ioctl.LoopOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { l.Detach() })
	size, err := ioctl.BlockSize(l.File())
	require.NoError(t, err)
	require.EqualValues(t, 4<<20, size)

	other := filepath.Join(filepath.Dir(path), "other-name")
	require.NoError(t, os.Link(path, other))
	found, err := ioctl.FindLoop(other)
	require.NoError(t, err, "found by inode, whatever the name")
	require.Equal(t, l.Number(), found.Number())
	require.NoError(t, found.Close())
	name, err := l.BackingFile()
	require.NoError(t, err)
	require.Equal(t, path, name)

	require.NoError(t, os.Truncate(path, 8<<20))
	require.NoError(t, l.Refresh())
	size, err = ioctl.BlockSize(l.File())
	require.NoError(t, err)
	require.EqualValues(t, 8<<20, size)

	require.NoError(t, l.Detach())
	gone(t, path)
}

func TestLoopAutoClearGoesAtLastClose(t *testing.T) {
	needLoop(t)
	path := sparse(t, t.TempDir(), 1<<20)
	l, err := ioctl.AttachLoop(t.Context(), path, ioctl.LoopOptions{AutoClear: true, ReadOnly: true})
	require.NoError(t, err)
	ro, err := ioctl.BlockReadOnly(l.File())
	require.NoError(t, err)
	require.True(t, ro)
	second, err := ioctl.OpenLoop(l.Number())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = ioctl.FindLoop(path)
	require.NoError(t, err, "still held by the second opener")
	require.NoError(t, second.Close())
	gone(t, path)
}

// gone waits, by asking, for the kernel's work queue to take a closed device apart.
func gone(t *testing.T, path string) {
	t.Helper()
	require.Eventually(t, func() bool {
		l, err := ioctl.FindLoop(path)
		if err == nil {
			l.Close()
		}
		return errors.Is(err, ioctl.ErrLoopNotFound)
	}, 5*time.Second, time.Millisecond)
}

func TestLoopSetAutoClearLater(t *testing.T) {
	needLoop(t)
	path := sparse(t, t.TempDir(), 1<<20)
	l, err := ioctl.AttachLoop(t.Context(), path, ioctl.LoopOptions{})
	require.NoError(t, err)
	require.NoError(t, l.SetAutoClear(true))
	info, err := l.Info()
	require.NoError(t, err)
	require.EqualValues(t, 4, info.Flags&4)
	require.NoError(t, l.Close())
	gone(t, path)
}

func TestLoopDirectIOIsReadBack(t *testing.T) {
	needLoop(t)
	for name, dir := range map[string]string{"tmpfs": "/dev/shm", "tempdir": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			sub, err := os.MkdirTemp(dir, "bstest")
			require.NoError(t, err)
			t.Cleanup(func() { os.RemoveAll(sub) })
			l, err := ioctl.AttachLoop(t.Context(), sparse(t, sub, 1<<20), ioctl.LoopOptions{})
			require.NoError(t, err)
			t.Cleanup(func() { l.Detach() })
			is, err := l.DirectIO()
			require.NoError(t, err)
			again, err := l.SetDirectIO(true)
			require.NoError(t, err)
			require.Equal(t, is, again)
			off, err := l.SetDirectIO(false)
			require.NoError(t, err)
			require.False(t, off)
		})
	}
}

func TestLoopManyAtOnce(t *testing.T) {
	needLoop(t)
	const n = 24
	dir := t.TempDir()
	loops := make(chan *ioctl.Loop, n)
	for range n {
		go func() {
			sub, _ := os.MkdirTemp(dir, "bstest")
			path := filepath.Join(sub, "f")
			os.WriteFile(path, make([]byte, 4096), 0o600)
			l, err := ioctl.AttachLoop(t.Context(), path, ioctl.LoopOptions{AutoClear: true})
			if err != nil {
				t.Error(err)
			}
			loops <- l
		}()
	}
	seen := map[int]bool{}
	for range n {
		l := <-loops
		if l == nil {
			continue
		}
		require.False(t, seen[l.Number()], "one device for one file")
		seen[l.Number()] = true
		defer l.Close()
	}
}

func TestBlockDiscardMakesTheFileSparse(t *testing.T) {
	needLoop(t)
	path := sparse(t, t.TempDir(), 4<<20)
	l, err := ioctl.AttachLoop(t.Context(), path, ioctl.LoopOptions{AutoClear: true})
	require.NoError(t, err)
	ones := make([]byte, 1<<20)
	for i := range ones {
		ones[i] = 1
	}
	_, err = l.File().WriteAt(ones, 1<<20)
	require.NoError(t, err)
	require.NoError(t, l.File().Sync())
	require.NoError(t, ioctl.BlockDiscard(l.File(), 1<<20, 1<<20))
	require.NoError(t, ioctl.BlockFlushBuffers(l.File()))
	_, err = l.File().ReadAt(ones, 1<<20)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 1<<20), ones)
	n, err := ioctl.BlockLogicalSize(l.File())
	require.NoError(t, err)
	require.Contains(t, []uint32{512, 4096}, n)
	require.NoError(t, ioctl.BlockZeroOut(l.File(), 0, 4096))
	require.NoError(t, ioctl.SetBlockReadOnly(l.File(), true))
	ro, err := ioctl.BlockReadOnly(l.File())
	require.NoError(t, err)
	require.True(t, ro)
	number := l.Number()
	require.NoError(t, l.Detach())

	// The flag stays on the device; the next to attach it must not inherit it.
	next, err := ioctl.AttachLoop(t.Context(), path, ioctl.LoopOptions{AutoClear: true})
	require.NoError(t, err)
	defer next.Close()
	if next.Number() != number {
		t.Logf("device %d was taken meanwhile", number)
	}
	ro, err = ioctl.BlockReadOnly(next.File())
	require.NoError(t, err)
	require.False(t, ro)
}
