package e2e

import (
	"archive/tar"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// importBigFile makes an image with one file of that size, streamed.
func (s *store) importBigFile(ref string, size int64) {
	s.t.Helper()
	cmd := exec.Command(s.bin, "--root", s.root, "import", "-", ref)
	in, err := cmd.StdinPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	w := tar.NewWriter(in)
	require.NoError(s.t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o644, Size: size}))
	block := make([]byte, 1<<20)
	rand.New(rand.NewSource(1)).Read(block)
	for left := size; left > 0; left -= int64(len(block)) {
		_, err := w.Write(block)
		require.NoError(s.t, err)
	}
	require.NoError(s.t, w.Close())
	require.NoError(s.t, in.(io.Closer).Close())
	require.NoError(s.t, cmd.Wait())
}

// TestFirstWriteCost writes four bytes into the middle of a file of a lower
// layer. What that allocates does not grow with the file.
func TestFirstWriteCost(t *testing.T) {
	s := newStore(t, "--loopback", "8G")
	cost := map[int64]int64{}
	for _, size := range []int64{1 << 20, 1 << 30} {
		ref := map[int64]string{1 << 20: "small:1", 1 << 30: "large:1"}[size]
		s.importBigFile(ref, size)
		s.run("create", "--name", "c", ref)
		dir := s.run("mount", "c")
		syncfs(t, dir) // what the mount itself writes is not the write's cost
		before, metaBefore := s.used()
		f, err := os.OpenFile(filepath.Join(dir, "big"), os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("four"), size/2)
		require.NoError(t, err)
		require.NoError(t, f.Sync())
		require.NoError(t, f.Close())
		syncfs(t, dir)
		after, metaAfter := s.used()
		cost[size] = after - before
		t.Logf("%s: 4 bytes into a file of %d MiB: %d bytes of data, %d of metadata allocated",
			driver(t), size>>20, after-before, metaAfter-metaBefore)
		require.Equal(t, "C /big", s.run("diff", "c"))
		s.run("rm", "-f", "c")
	}
	// One block of data; the inode, the journal and the superblock are others.
	const block, metadata = 64 << 10, 6 * 64 << 10
	for size, bytes := range cost {
		require.LessOrEqual(t, bytes, int64(block+metadata), "file of %d MiB", size>>20)
	}
	require.InDelta(t, cost[1<<20], cost[1<<30], block*2, "the cost grows with the file")
}

func syncfs(t *testing.T, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, unix.Syncfs(int(d.Fd())))
}
