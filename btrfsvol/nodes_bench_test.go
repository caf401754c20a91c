package btrfsvol

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkSnapshotOfChanges is a snapshot of a fresh snapshot in which ten files were made, as Docker makes them in each container, by
// the size of the trees' nodes. Of that it is the processor's time in the kernel that the size makes (docs/adr/0011).
func BenchmarkSnapshotOfChanges(b *testing.B) {
	for _, size := range []Bytes{16 << 10, 8 << 10, 4 << 10} {
		b.Run(fmt.Sprintf("nodes=%dKiB", size>>10), func(b *testing.B) {
			fs := formatted(b, FormatOptions{NodeSize: size})
			require.NoError(b, fs.Create("image", CreateOptions{}))
			for i := range 5000 {
				dir := filepath.Join(fs.Dir(), "image", fmt.Sprint(i%100))
				require.NoError(b, os.MkdirAll(dir, 0o755))
				require.NoError(b, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), make([]byte, 8<<10), 0o644))
			}
			require.NoError(b, fs.Sync())
			var kernel time.Duration
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				container := fmt.Sprintf("container%d", i)
				require.NoError(b, fs.Snapshot("image", container, CreateOptions{}))
				for n := range 10 {
					require.NoError(b, os.WriteFile(filepath.Join(fs.Dir(), container, fmt.Sprint(n*10), "made"), nil, 0o644))
				}
				before := kernelTime(b)
				b.StartTimer()
				require.NoError(b, fs.Snapshot(container, container+"-copy", CreateOptions{}))
				kernel += kernelTime(b) - before
			}
			b.ReportMetric(float64(kernel.Microseconds())/1000/float64(b.N), "kernel-ms/op")
		})
	}
}

func kernelTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Stime.Nano())
}
