package thinpool_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/thinpool"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// A pool under random operations, and what it must hold: for each block of each device the number of the write that
// made it. Two blocks are one data block exactly when they come from one write.
type workload struct {
	w      *world
	p      *thinpool.Pool
	r      *rand.Rand
	blocks map[dm.DeviceID]map[dm.Blocks]int
	writes int
	next   dm.DeviceID
}

const workloadBlocks = 400 // of a device

func (l *workload) ids() []dm.DeviceID { return slices.Sorted(maps.Keys(l.blocks)) }

func (l *workload) pick() dm.DeviceID {
	ids := l.ids()
	return ids[l.r.IntN(len(ids))]
}

func (l *workload) step() {
	t := l.w.t
	switch n := l.r.IntN(10); {
	case len(l.blocks) == 0 || n == 0:
		l.next++
		require.NoError(t, l.p.CreateThin(t.Context(), l.next))
		l.blocks[l.next] = map[dm.Blocks]int{}
	case n <= 3:
		origin := l.pick()
		l.next++
		require.NoError(t, l.p.CreateSnapshot(t.Context(), l.next, thinpool.SnapshotOptions{Origin: origin}))
		l.blocks[l.next] = maps.Clone(l.blocks[origin])
	case n == 4 && len(l.blocks) > 3:
		id := l.pick()
		require.NoError(t, l.p.Delete(t.Context(), id))
		delete(l.blocks, id)
	default:
		l.change(l.pick(), n == 5)
	}
}

// change writes to a device or discards some of it. All devices stay small enough for the pool.
func (l *workload) change(id dm.DeviceID, discard bool) {
	t := l.w.t
	d, err := l.p.Activate(t.Context(), id, thinpool.ActivateOptions{Size: workloadBlocks << 16})
	require.NoError(t, err)
	f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	require.NoError(t, err)
	for range 1 + l.r.IntN(4) {
		at, n := dm.Blocks(l.r.IntN(workloadBlocks-8)), dm.Blocks(1+l.r.IntN(8))
		if discard {
			require.NoError(t, f.Sync())
			require.NoError(t, ioctl.BlockDiscard(f, uint64(at)<<16, uint64(n)<<16))
		} else {
			_, err := f.WriteAt(bytes.Repeat([]byte{byte(l.writes)}, int(n)<<16), int64(at)<<16)
			require.NoError(t, err)
		}
		for i := range n {
			l.writes++
			l.blocks[id][at+i] = l.writes
			if discard {
				delete(l.blocks[id], at+i)
			}
		}
	}
	require.NoError(t, errors.Join(f.Sync(), f.Close()))
	require.NoError(t, l.p.Deactivate(t.Context(), id))
}

// compare reads everything and compares it with what was done.
func (l *workload) compare(v *metadata.View) {
	t := l.w.t
	usage, err := v.Usage(t.Context())
	require.NoError(t, err)
	require.Len(t, usage.Devices, len(l.blocks))
	users := map[int]int{} // of a write
	for _, blocks := range l.blocks {
		for _, w := range blocks {
			users[w]++
		}
	}
	require.EqualValues(t, len(users), usage.Used)
	data, sum := map[dm.Blocks]int{}, usage.Shared
	for _, d := range usage.Devices {
		blocks, alone := l.blocks[d.ID], 0
		require.EqualValues(t, len(blocks), d.Mapped)
		for m, err := range v.Mappings(t.Context(), d.ID) {
			require.NoError(t, err)
			for i := range m.Length {
				w, ok := blocks[m.Begin+i]
				require.True(t, ok, "device %d maps block %d", d.ID, m.Begin+i)
				if _, seen := data[m.Data+i]; !seen {
					data[m.Data+i] = w
				}
				require.Equal(t, data[m.Data+i], w, "device %d, block %d", d.ID, m.Begin+i)
				if users[w] == 1 {
					alone++
				}
			}
		}
		require.EqualValues(t, alone, d.Exclusive, "device %d", d.ID)
		sum += d.Exclusive
	}
	require.Len(t, data, len(users))
	require.Equal(t, usage.Used, sum)
	l.compareTwo(v)
}

func (l *workload) compareTwo(v *metadata.View) {
	t := l.w.t
	o := metadata.DeltaOptions{Left: l.pick(), Right: l.pick()}
	got := map[dm.Blocks]bool{}
	for c, err := range v.Delta(t.Context(), o) {
		require.NoError(t, err)
		for i := range c.Length {
			got[c.Begin+i] = true
		}
	}
	want := map[dm.Blocks]bool{}
	left, right := l.blocks[o.Left], l.blocks[o.Right]
	for b, w := range left {
		if right[b] != w {
			want[b] = true
		}
	}
	for b, w := range right {
		if left[b] != w {
			want[b] = true
		}
	}
	require.Equal(t, want, got, "devices %d and %d", o.Left, o.Right)
	group, err := v.Group(t.Context(), o.Left, o.Right)
	require.NoError(t, err)
	users := map[int]map[dm.DeviceID]bool{}
	for id, blocks := range l.blocks {
		for _, w := range blocks {
			if users[w] == nil {
				users[w] = map[dm.DeviceID]bool{}
			}
			users[w][id] = true
		}
	}
	freed := 0
	for _, of := range users {
		delete(of, o.Left)
		delete(of, o.Right)
		if len(of) == 0 {
			freed++
		}
	}
	require.EqualValues(t, freed, group.Exclusive)
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return string(out)
}

// TestMetadataUnderRandomOperations: what the metadata say is what was done, live and when the pool is down, and
// thin-provisioning-tools read the same.
func TestMetadataUnderRandomOperations(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t)
			p := w.pool(func(o *thinpool.CreateOptions) {
				o.Name, o.DataSize = fmt.Sprintf("bstest-random-%d", seed), 1<<30
			})
			l := &workload{w: w, p: p, r: rand.New(rand.NewPCG(seed, 3)), blocks: map[dm.DeviceID]map[dm.Blocks]int{}}
			for range 5 {
				for range 12 {
					l.step()
				}
				require.NoError(t, p.Metadata(t.Context(), func(v *metadata.View) error {
					require.True(t, v.Held())
					l.compare(v)
					return nil
				}))
				st, err := p.Commit(t.Context())
				require.NoError(t, err)
				require.Zero(t, st.HeldRoot)
				require.NoError(t, p.Metadata(t.Context(), func(v *metadata.View) error {
					u, err := v.Usage(t.Context())
					require.Equal(t, st.DataUsed, u.Used, "the pool's own count")
					return err
				}))
			}
			require.NoError(t, p.Close(t.Context()))
			compareWithTools(t, p.Config().Metadata)
		})
	}
}

func compareWithTools(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	v, err := metadata.Open(f)
	require.NoError(t, err)
	findings, err := v.Check(t.Context(), metadata.CheckOptions{})
	require.NoError(t, err)
	require.Empty(t, findings)
	output(t, "thin_check", path)
	var xml bytes.Buffer
	require.NoError(t, v.Dump(t.Context(), &xml, metadata.DumpOptions{}))
	require.Equal(t, output(t, "thin_dump", path), xml.String())
	u, err := v.Usage(t.Context())
	require.NoError(t, err)
	var ls bytes.Buffer
	for _, d := range u.Devices {
		fmt.Fprintln(&ls, d.ID, d.Mapped, d.Exclusive, d.Shared())
	}
	theirs := bytes.Fields([]byte(output(t, "thin_ls", "--no-headers", "-o", "DEV,MAPPED_BLOCKS,EXCLUSIVE_BLOCKS,SHARED_BLOCKS", path)))
	require.Equal(t, bytes.Fields(ls.Bytes()), theirs)
	o := metadata.DeltaOptions{Left: u.Devices[0].ID, Right: u.Devices[len(u.Devices)-1].ID, Same: true}
	xml.Reset()
	require.NoError(t, v.DumpDelta(t.Context(), &xml, o))
	require.Equal(t, output(t, "thin_delta", "--thin1", fmt.Sprint(o.Left), "--thin2", fmt.Sprint(o.Right), path), xml.String())
}

// TestMetadataBesideWriters: a view stays whole while the pool changes, and is what thin_dump sees at that time.
func TestMetadataBesideWriters(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	f := w.activate(p, 1)
	require.NoError(t, w.fill(f, 0, 100, 'o'))
	loop, err := ioctl.FindLoop(p.Config().Metadata)
	require.NoError(t, err)
	defer loop.Close()
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			id := dm.DeviceID(2 + i%3)
			err := errors.Join(
				p.CreateSnapshot(t.Context(), id, thinpool.SnapshotOptions{Origin: 1, Reclaim: true}),
				w.fill(f, i%100, 1+i%4, byte(i)),
			)
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 10 {
		err := p.Metadata(t.Context(), func(v *metadata.View) error {
			u, err := v.Usage(t.Context())
			if err != nil {
				return err
			}
			again, err := v.Usage(t.Context())
			require.Equal(t, u, again)
			sum := u.Shared
			for _, d := range u.Devices {
				sum += d.Exclusive
			}
			require.Equal(t, u.Used, sum)
			findings, cerr := v.Check(t.Context(), metadata.CheckOptions{})
			require.Empty(t, findings)
			var xml bytes.Buffer
			derr := v.Dump(t.Context(), &xml, metadata.DumpOptions{})
			_, ours, _ := strings.Cut(xml.String(), "\n") // the first line of theirs has no data blocks
			_, theirs, _ := strings.Cut(output(t, "thin_dump", "-m", loop.Path()), "\n")
			require.Equal(t, theirs, ours)
			return errors.Join(err, cerr, derr)
		})
		require.NoError(t, err)
		for range 5 {
			require.NoError(t, p.Glance(t.Context(), func(v *metadata.View) error {
				findings, err := v.Check(t.Context(), metadata.CheckOptions{})
				if !v.Held() && err == nil && len(findings) > 0 {
					err = &metadata.CorruptError{Reason: findings[0].Text} // perhaps it moved: that does not count
				}
				return err
			}))
		}
	}
	close(stop)
	writing.Wait()
	require.NoError(t, f.Close())
}

func (w *world) heldRoot(p *thinpool.Pool) dm.MetadataBlocks {
	w.t.Helper()
	st, err := p.Status(w.t.Context())
	require.NoError(w.t, err)
	return st.HeldRoot
}

func (w *world) message(p *thinpool.Pool, text string) {
	w.t.Helper()
	_, err := w.dm.Message(w.t.Context(), dm.UUID(p.Config().PoolUUID()), 0, text)
	require.NoError(w.t, err)
}

func (w *world) reopen(p *thinpool.Pool) *thinpool.Pool {
	w.t.Helper()
	again, err := thinpool.Open(w.t.Context(), w.dm, p.Config())
	require.NoError(w.t, err)
	return again
}

func TestMetadataIsReleasedWhateverHappens(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	broken := errors.New("broken")
	require.ErrorIs(t, p.Metadata(t.Context(), func(*metadata.View) error { return broken }), broken)
	require.Zero(t, w.heldRoot(p))
	require.Panics(t, func() { _ = p.Metadata(t.Context(), func(*metadata.View) error { panic("on the way") }) })
	require.Zero(t, w.heldRoot(p))
	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, p.Metadata(ctx, func(v *metadata.View) error {
		require.NotZero(t, w.heldRoot(p))
		cancel()
		_, err := v.Usage(ctx)
		return err
	}), context.Canceled)
	require.Zero(t, w.heldRoot(p))
	require.NoError(t, thinpool.ReadMetadata(t.Context(), w.dm, dm.Name(p.Config().PoolName()), func(v *metadata.View) error {
		_, err := v.Devices(t.Context())
		return err
	}))
	require.Zero(t, w.heldRoot(p))
	require.NoError(t, p.CreateThin(t.Context(), 1))
	w.activate(p, 1).Close()
	thin := dm.UUID(p.Config().ThinUUID(1))
	require.ErrorIs(t, thinpool.ReadMetadata(t.Context(), w.dm, thin, nil), thinpool.ErrInvalid)
}

// TestMetadataHeldByOthers: it is waited for, not taken; and what others take from us is not believed.
func TestMetadataHeldByOthers(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	nothing := func(*metadata.View) error { return nil }
	w.message(p, dm.ReserveMetadataSnapMessage)
	began := time.Now()
	err := p.Metadata(t.Context(), nothing)
	require.ErrorIs(t, err, thinpool.ErrBusy)
	require.ErrorContains(t, err, "release_metadata_snap", "the error says how to mend it")
	require.Less(t, time.Since(began), time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Metadata(ctx, nothing), context.DeadlineExceeded)
	require.NotZero(t, w.heldRoot(p))

	done := make(chan error)
	go func() { done <- p.Metadata(t.Context(), nothing) }()
	w.message(p, dm.ReleaseMetadataSnapMessage)
	require.NoError(t, <-done)

	err = p.Metadata(t.Context(), func(*metadata.View) error {
		w.message(p, dm.ReleaseMetadataSnapMessage)
		return errors.New("what was seen")
	})
	require.ErrorIs(t, err, thinpool.ErrTaken)
	require.NotContains(t, err.Error(), "what was seen")
	err = p.Metadata(t.Context(), func(*metadata.View) error {
		w.message(p, dm.ReleaseMetadataSnapMessage)
		require.NoError(t, p.CreateThin(t.Context(), 1))
		w.message(p, dm.ReserveMetadataSnapMessage)
		return nil
	})
	require.ErrorIs(t, err, thinpool.ErrTaken)
	require.NotZero(t, w.heldRoot(p), "another's")
	w.message(p, dm.ReleaseMetadataSnapMessage)
}

// TestOpenReleasesWhatADeadProcessHeld, and nothing else.
func TestOpenReleasesWhatADeadProcessHeld(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	w.message(p, dm.ReserveMetadataSnapMessage)
	w.reopen(p)
	require.NotZero(t, w.heldRoot(p), "another process's, which may live")
	w.message(p, dm.ReleaseMetadataSnapMessage)

	_ = p.Metadata(t.Context(), func(*metadata.View) error {
		w.reopen(p) // as after a kill at this instant
		require.Zero(t, w.heldRoot(p))
		return nil
	})
	devices, err := w.dm.List(t.Context(), dm.Prefix{UUID: p.Config().UUIDPrefix()})
	require.NoError(t, err)
	require.Len(t, devices, 1, "the pool")

	w.message(p, dm.ReserveMetadataSnapMessage)
	require.NoError(t, p.Close(t.Context()))
	p = w.reopen(p)
	require.Zero(t, w.heldRoot(p), "nobody reads a pool that was down")
}

// TestKilledReader: a process is killed while it reads, and the next one to open the pool cleans up.
func TestKilledReader(t *testing.T) {
	const pool = "BSTEST_POOL"
	if config := os.Getenv(pool); config != "" {
		readForEver(t, config)
	}
	w := newWorld(t)
	p := w.pool()
	config, err := json.Marshal(p.Config())
	require.NoError(t, err)
	child := exec.Command(os.Args[0], "-test.run=^TestKilledReader$")
	child.Env = append(os.Environ(), pool+"="+string(config))
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "reading\n", line)
	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	require.NotZero(t, w.heldRoot(p), "it was left held")
	p = w.reopen(p)
	require.Zero(t, w.heldRoot(p))
	require.NoError(t, p.Metadata(t.Context(), func(*metadata.View) error { return nil }))
}

// readForEver is the process that is killed.
func readForEver(t *testing.T, text string) {
	var config thinpool.Config
	require.NoError(t, json.Unmarshal([]byte(text), &config))
	client, err := dm.Open(dm.Options{})
	require.NoError(t, err)
	p, err := thinpool.Open(t.Context(), client, config)
	require.NoError(t, err)
	t.Fatal(p.Metadata(t.Context(), func(*metadata.View) error {
		fmt.Println("reading")
		return unix.Pause()
	}))
}

// TestGlance: what was seen while the pool wrote does not count.
func TestGlance(t *testing.T) {
	w := newWorld(t)
	p := w.pool()
	require.NoError(t, p.CreateThin(t.Context(), 1))
	calls := w.called(func() {
		require.NoError(t, p.Glance(t.Context(), func(v *metadata.View) error {
			require.False(t, v.Held())
			_, err := v.Device(t.Context(), 1)
			return err
		}))
	})
	require.Equal(t, []string{"TABLE_STATUS"}, calls, "the pool's table, and nothing is written")
	broken := errors.New("broken")
	require.ErrorIs(t, p.Glance(t.Context(), func(*metadata.View) error { return broken }), broken)

	next, held := dm.DeviceID(1), false
	require.NoError(t, p.Glance(t.Context(), func(v *metadata.View) error {
		if held = v.Held(); held {
			return nil
		}
		next++
		return errors.Join(broken, p.CreateThin(t.Context(), next))
	}))
	require.True(t, held, "after some tries it is held")
	require.Greater(t, next, dm.DeviceID(3))

	loop, err := ioctl.FindLoop(p.Config().Metadata)
	require.NoError(t, err)
	iostats := fmt.Sprintf("/sys/block/%s/queue/iostats", filepath.Base(loop.Path()))
	require.NoError(t, loop.Close())
	require.NoError(t, os.WriteFile(iostats, []byte("0"), 0))
	require.NoError(t, p.Glance(t.Context(), func(v *metadata.View) error {
		require.True(t, v.Held(), "where writes are not counted")
		return nil
	}))
}
