package thinpool_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/metadata"
)

const (
	// besideIdle is how long a writer is measured alone.
	besideIdle = 20 * time.Second
	// besideRoom is how many blocks the writer may take.
	besideRoom = 500_000
)

// BenchmarkWriterBesideRemoval is what a writer feels of the removal of a device with so many blocks of its own, 18 GiB:
// how long its operations take alone, and beside it. run is how many blocks of the removed device lie together, as a
// device has them that was written alone or beside others.
func BenchmarkWriterBesideRemoval(b *testing.B) {
	for _, run := range []int{1000, 16} {
		b.Run(fmt.Sprintf("run=%d", run), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				p, destroy := crowdedPool(b, 300_000, run)
				w := newWriter(b, p)
				alone := w.until(time.After(besideIdle))
				removed := make(chan time.Time)
				b.StartTimer()
				begun := time.Now()
				go func() {
					defer close(removed)
					if err := errors.Join(p.Discard(b.Context(), 2), p.Delete(b.Context(), 2)); err != nil {
						b.Error(err)
					}
				}()
				beside := w.until(removed)
				b.StopTimer()
				b.ReportMetric(time.Since(begun).Seconds(), "s/removal")
				for kind, name := range writes {
					b.ReportMetric(alone.percentile(kind, 99), name+"-alone-p99-ms")
					b.ReportMetric(beside.percentile(kind, 99), name+"-beside-p99-ms")
					b.Logf("run %d: %s: alone %s; beside %s", run, name, alone.said(kind), beside.said(kind))
				}
				w.close()
				destroy()
				b.StartTimer()
			}
		})
	}
}

// The operations of a writer: 4 KiB into a block that is there, into one that is not, and a flush.
const (
	overwrite = iota
	provision
	flush
)

var writes = []string{"overwrite", "provision", "flush"}

// times of a writer's operations, by kind.
type times [3][]time.Duration

func (t times) at(kind, percent int) time.Duration {
	slices.Sort(t[kind])
	return t[kind][(len(t[kind])-1)*percent/100]
}

func (t times) percentile(kind, percent int) float64 {
	return float64(t.at(kind, percent).Microseconds()) / 1000
}

func (t times) said(kind int) string {
	return fmt.Sprintf("%d, median %v, p99 %v, longest %v", len(t[kind]), t.at(kind, 50), t.at(kind, 99), t.at(kind, 100))
}

// writer writes to device 1 of a pool.
type writer struct {
	b      *testing.B
	p      *thinpool.Pool
	f      *os.File
	chance *rand.Rand
	block  []byte
	next   int64 // block that is not there
}

const mappedOfWriter = 256

func newWriter(b *testing.B, p *thinpool.Pool) *writer {
	b.Helper()
	d, err := p.Activate(b.Context(), 1, thinpool.ActivateOptions{Size: 64 << 30})
	require.NoError(b, err)
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_DIRECT, 0)
	require.NoError(b, err)
	page, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(b, err)
	copy(page, bytes.Repeat([]byte{'w'}, len(page)))
	for i := range int64(mappedOfWriter) {
		_, err := f.WriteAt(page, i<<16)
		require.NoError(b, err)
	}
	require.NoError(b, f.Sync())
	return &writer{b: b, p: p, f: f, chance: rand.New(rand.NewPCG(1, 2)), block: page[:4096], next: mappedOfWriter}
}

// until writes until something happens: of sixteen operations one is a flush, two are to blocks that are not there.
func (w *writer) until(c <-chan time.Time) (t times) {
	for n := 0; ; n++ {
		select {
		case <-c:
			return t
		default:
		}
		kind, begun := overwrite, time.Now()
		var err error
		switch n % 16 {
		case 15:
			kind, err = flush, w.f.Sync()
		case 5, 10:
			kind = provision
			_, err = w.f.WriteAt(w.block, w.next<<16)
			w.next++
		default:
			_, err = w.f.WriteAt(w.block, int64(w.chance.IntN(mappedOfWriter*16))<<12)
		}
		t[kind] = append(t[kind], time.Since(begun))
		require.NoError(w.b, err)
	}
}

func (w *writer) close() {
	require.NoError(w.b, w.f.Close())
	require.NoError(w.b, w.p.Deactivate(w.b.Context(), 1))
}

// crowdedPool has a thin device 1, and 2 with so many blocks of its own, in runs. Its metadata are thin_restore's, and its
// data are allocated in the file and were never written.
func crowdedPool(b *testing.B, blocks, run int) (*thinpool.Pool, func()) {
	b.Helper()
	client, err := dm.Open(dm.Options{})
	if err != nil {
		b.Skipf("no device-mapper in this kernel: %v", err)
	}
	if _, err := exec.LookPath("thin_restore"); err != nil {
		b.Skip("thin_restore, of thin-provisioning-tools, is not installed")
	}
	dir := b.TempDir()
	size := uint64(blocks+besideRoom) << 16
	p, err := thinpool.Create(b.Context(), client, thinpool.CreateOptions{
		Config:   thinpool.Config{Name: "bstest-beside", Loopback: true, Data: dir + "/data", Metadata: dir + "/metadata"},
		DataSize: size, MetadataSize: 256 << 20,
	})
	require.NoError(b, err)
	require.NoError(b, p.CreateThin(b.Context(), 1))
	config := p.Config()
	require.NoError(b, p.Close(b.Context()))
	data, err := os.OpenFile(config.Data, os.O_RDWR, 0)
	require.NoError(b, err)
	require.NoError(b, errors.Join(unix.Fallocate(int(data.Fd()), 0, 0, int64(size)), data.Close()))
	restore(b, config, dir, blocks, run)
	p, err = thinpool.Open(b.Context(), client, config)
	require.NoError(b, err)
	return p, func() {
		require.NoError(b, thinpool.Destroy(b.Context(), client, config))
		require.NoError(b, client.Close())
	}
}

// restore writes the pool's metadata: runs of blocks that are neighbours in the device and are not in the data.
func restore(b *testing.B, c thinpool.Config, dir string, blocks, run int) {
	b.Helper()
	sb, err := thinpool.ReadSuperblock(c.Metadata)
	require.NoError(b, err)
	var xml bytes.Buffer
	fmt.Fprintf(&xml, `<superblock uuid="" time="0" transaction="%d" flags="0" version="2" data_block_size="%d" nr_data_blocks="%d">`,
		sb.TransactionID, c.BlockSize, blocks+besideRoom)
	xml.WriteString(`<device dev_id="1" mapped_blocks="0" transaction="0" creation_time="0" snap_time="0"></device>`)
	runs := blocks / run // no multiple of 7
	fmt.Fprintf(&xml, `<device dev_id="2" mapped_blocks="%d" transaction="0" creation_time="0" snap_time="0">`, runs*run)
	for i := range runs {
		at := i * 7 % runs
		fmt.Fprintf(&xml, `<range_mapping origin_begin="%d" data_begin="%d" length="%d" time="0"/>`, i*run, at*run, run)
	}
	xml.WriteString(`</device></superblock>`)
	path := filepath.Join(dir, "xml")
	require.NoError(b, os.WriteFile(path, xml.Bytes(), 0o600))
	out, err := exec.Command("thin_restore", "-i", path, "-o", c.Metadata).CombinedOutput()
	require.NoError(b, err, "%s", out)
	require.NoError(b, os.Remove(path))
	identify(b, c.Metadata, c.Identity)
}

// identify gives the identity back that the tools do not keep.
func identify(b *testing.B, path string, id uuid.UUID) {
	b.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(b, err)
	block := make([]byte, dm.MetadataBlockSize)
	_, err = f.ReadAt(block, 0)
	require.NoError(b, err)
	require.NoError(b, metadata.SetIdentity(block, id))
	_, err = f.WriteAt(block, 0)
	require.NoError(b, errors.Join(err, f.Sync(), f.Close()))
}
