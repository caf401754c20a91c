package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/thin"
)

// number is a number of the soak's, or the test's.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv("BLOCKSTORE_SOAK_" + name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "BLOCKSTORE_SOAK_%s", name)
	return n
}

// where says on what a run was made.
func where(t *testing.T) {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	t.Logf("Linux %.*s, %s, machine %q", len(release)-1, release, runtime.GOARCH, os.Getenv("BLOCKSTORE_MACHINE"))
}

// A flush that dm-log-writes is given while another is under way may be logged before it, and then so is what was written
// between the two, though it is the later: a file system's block before the pool's copy that it was written over. A disk
// cannot do that. So above the log stands a mirror of one leg: md has one flush at a time under way, and leaves the rest as
// it is (md_flush_request in drivers/md/md.c).
const (
	powerTurns = "bstest-faults-turns"
	powerLog   = "bstest-faults-log"
	powerCrash = "bstest-faults-crash"
)

// cut is a run of operations on a disk that logs its writes, and what is made of it at crash points.
type cut struct {
	*disk
	seed    uint64
	workers int
	steps   int // of each worker
	plant   string

	h     history
	base  snapshot.Image
	path  string // the log's
	index []entry
	start int
	end   int
}

// TestPowerCut cuts the power at hundreds of writes, of flushes and of marks in a run of random operations.
func TestPowerCut(t *testing.T) {
	rounds := number(t, "POWER_ROUNDS", 1)
	seed := number(t, "SEED", 1)
	points := number(t, "POWER_POINTS", 300)
	where(t)
	for round := range rounds {
		t.Run(strconv.Itoa(seed+round), func(t *testing.T) {
			c := newCut(t, uint64(seed+round))
			c.record()
			tried, read, found := c.replay(points, 0)
			t.Logf("%d operations in %d entries of the log; %d crash points, at which %d layers and containers were read: %d findings",
				len(c.h.ops), c.end-c.start, tried, read, len(found))
			require.Empty(t, found)
			require.Equal(t, points, tried, "so many crash points")
		})
	}
}

// TestPowerCutFindsWhatIsPlanted leaves out, one at a time, what durability hangs on: a programme that would not notice
// proves nothing.
func TestPowerCutFindsWhatIsPlanted(t *testing.T) {
	marked(t)
	where(t)
	for _, planted := range []struct {
		what   string
		points int
	}{
		{"flush", 300},
		{"catalog.flush", 300},
		{"ids.record", 30}, // shows at each crash point from the end of a block of ids on
		{"garbage.record", 300},
	} {
		plant := planted.what
		t.Run(plant, func(t *testing.T) {
			c := newCut(t, uint64(number(t, "SEED", 1)))
			c.plant = plant
			c.record()
			tried, _, found := c.replay(planted.points, 1)
			require.NotEmpty(t, found, "%s was left out, and %d crash points show nothing", plant, tried)
			t.Logf("found at crash point %d: %s", tried, found[0])
		})
	}
}

func newCut(t *testing.T, seed uint64) *cut {
	r := newRig(t, "log-writes", "raid", "snapshot")
	return &cut{disk: r.disk(), seed: seed, workers: 3, steps: number(t, "POWER_STEPS", 22)}
}

// record runs the operations.
func (c *cut) record() {
	c.t.Helper()
	c.path = filepath.Join(c.dir, "log")
	under, log := c.loop(filepath.Join(c.dir, "disk"), int64(c.length())*dm.SectorSize), c.loop(c.path, 2<<30)
	c.t.Cleanup(func() { c.remove(powerTurns, powerLog) })
	logged := c.device(powerLog, c.length(), dm.LogWrites{Device: under, Log: log})
	c.slice(c.device(powerTurns, c.length(), dm.Raw{Kind: "raid", Text: fmt.Sprintf("raid1 3 0 region_size 1024 1 - %s", logged)}))
	c.run("mkfs.ext4", "-q", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0", c.part("catalog"))
	c.ok(c.mount())
	c.ok(snapshot.Init(c.ctx(), thin.Kind{}, snapshot.InitOptions{
		Root: c.root(), BaseSize: 64 << 20, DataDevice: c.part("data"), MetadataDevice: c.part("metadata"),
	}, "the fault programme"))
	s, err := snapshot.Open(c.ctx(), options(c.root()))
	c.ok(err)
	c.base = loadBase(c.t, s)
	c.useIDs(s)
	c.h.mark = func(o *op, what string, _ effect) error { return c.mark(fmt.Sprintf("%s-%d", what, o.id)) }
	if c.plant == "catalog.flush" { // is chosen when the catalog is opened
		c.ok(s.Close(c.ctx()))
	}
	c.t.Setenv("BLOCKSTORE_FAILPOINT_LEAVE", c.plant)
	if c.plant == "catalog.flush" {
		s, err = snapshot.Open(c.ctx(), options(c.root()))
		c.ok(err)
	}
	c.ok(c.mark("start"))
	begun := time.Now()
	c.ok(work(&c.h, s, c.base, c.t.TempDir(), c.seed, c.workers, c.steps))
	c.ok(c.mark("end"))
	c.t.Logf("%d operations in %v", len(c.h.ops), time.Since(begun).Round(time.Second))
	c.t.Setenv("BLOCKSTORE_FAILPOINT_LEAVE", "")
	_, lines, err := c.dm.Status(c.ctx(), dm.Name(powerLog), dm.StatusOptions{})
	c.ok(err)
	status, err := dm.ParseLogWritesStatus(lines[0].Params)
	c.ok(err)
	require.False(c.t, status.Disabled, "the log is full")
	c.ok(s.Close(c.ctx()))
	c.unmount()
	c.clear()
	c.unslice()
	c.remove(powerTurns, powerLog)
}

func (c *cut) mark(text string) error {
	_, err := c.dm.Message(c.ctx(), dm.Name(powerLog), 0, "mark "+text)
	return err
}

// work has workers do random operations side by side.
func work(h *history, s *snapshot.Store, base snapshot.Image, unpackIn string, seed uint64, workers, steps int) error {
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for i := range workers {
		wg.Go(func() {
			w := &worker{h: h, s: s, base: base, unpackIn: unpackIn, number: i, chance: rand.New(rand.NewPCG(seed, uint64(i)))}
			for n := 0; n < steps && errs[i] == nil; n++ {
				errs[i] = w.step()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func loadBase(t *testing.T, s *snapshot.Store) snapshot.Image {
	t.Helper()
	var layers []snapshot.LayerSource
	for _, layer := range baseTars() {
		layers = append(layers, source(layer))
	}
	im, err := s.Load(ctxOf(), snapshot.LoadRequest{Layers: layers, Config: []byte("base"), Refs: []string{"base:1"}})
	require.NoError(t, err)
	return im
}

// useIDs takes most of the reserved block of volume ids, so that the operations come to its end: a load that fails has
// taken as many as it has layers.
func (c *cut) useIDs(s *snapshot.Store) {
	c.t.Helper()
	gone := errors.New("gone")
	var layers []snapshot.LayerSource
	for i := range 110 {
		layers = append(layers, snapshot.LayerSource{
			DiffID: digest.FromString(strconv.Itoa(i)),
			Open:   func(context.Context) (io.ReadCloser, error) { return nil, gone },
		})
	}
	_, err := s.Load(c.ctx(), snapshot.LoadRequest{Layers: layers})
	require.ErrorIs(c.t, err, gone)
}

// replay tries crash points, evenly over the run, until all are tried or, unless that is 0, so many of them have findings.
func (c *cut) replay(points, enough int) (tried, read int, found []string) {
	c.t.Helper()
	log, err := os.Open(c.path)
	c.ok(err)
	defer log.Close()
	c.index, err = readLog(log)
	c.ok(err)
	c.start, c.end = c.h.settle(c.index)
	require.Greater(c.t, c.end, c.start, "the log has no marks")
	require.GreaterOrEqual(c.t, c.end-c.start, points, "the run has too few writes for so many crash points")
	disk := filepath.Join(c.dir, "replay")
	under, over := c.loop(disk, int64(c.length())*dm.SectorSize), c.loop(filepath.Join(c.dir, "after"), 128<<20)
	durable, err := os.OpenFile(disk, os.O_RDWR, 0)
	c.ok(err)
	defer durable.Close()
	chance := rand.New(rand.NewPCG(c.seed, 99))
	applied, bad, begun := 0, 0, time.Now()
	for tried < points && (enough == 0 || bad < enough) {
		k := c.start + 1 + int(int64(tried)*int64(c.end-c.start)/int64(points))
		flushed := k
		for flushed > applied && !c.index[flushed-1].flush() {
			flushed--
		}
		for ; applied < flushed; applied++ {
			c.ok(c.index[applied].apply(log, durable, 0, 1<<62))
		}
		p := point{cut: c, k: k, number: tried, chance: chance}
		p.crash(log, under, over)
		tried++
		read += p.read
		if len(p.found) > 0 {
			bad++
		}
		for _, f := range p.found {
			found = append(found, fmt.Sprintf("entry %d (%s): %s", k, p.how, f))
			if enough == 0 {
				c.t.Log(found[len(found)-1])
			}
		}
		if tried%50 == 0 {
			c.t.Logf("%d crash points after %v", tried, time.Since(begun).Round(time.Second))
		}
		if len(found) > 50 {
			return tried, read, found
		}
	}
	for ; applied < len(c.index); applied++ {
		c.ok(c.index[applied].apply(log, durable, 0, 1<<62))
	}
	c.same(filepath.Join(c.dir, "disk"), disk)
	return tried, read, found
}

// same says that the log is true: the disk that was logged has what its log makes of an empty one.
func (c *cut) same(logged, replayed string) {
	c.t.Helper()
	want, err := digestOf(logged)
	c.ok(err)
	got, err := digestOf(replayed)
	c.ok(err)
	require.Equal(c.t, want, got, "the log does not say in what order its disk was written")
}

// point is one crash point: the disk has all that was flushed before entry k, and of what was written since the last
// flush all, or some.
type point struct {
	*cut
	k, number int
	chance    *rand.Rand
	how       string
	read      int
	found     []string
}

// crash makes the disk as it was then, over a copy-on-write device, and recovers.
func (p *point) crash(log *os.File, under, over dm.Number) {
	p.t.Helper()
	n := p.device(powerCrash, p.length(), dm.Raw{Kind: "snapshot", Text: fmt.Sprintf("%s %s N 8", under, over)})
	defer p.remove(powerCrash)
	cached, err := os.OpenFile(dm.Path(n), os.O_RDWR, 0)
	p.ok(err)
	last := p.k
	for last > 0 && !p.index[last-1].flush() {
		last--
	}
	p.how = "in order"
	if p.number%2 == 1 {
		p.how = "some"
	}
	for _, e := range p.index[last:p.k] {
		if p.how == "in order" || e.flags&logFUA != 0 {
			err = e.apply(log, cached, 0, 1<<62)
		} else {
			err = e.applySome(log, cached, p.chance)
		}
		p.ok(err)
	}
	p.ok(errors.Join(cached.Sync(), cached.Close()))
	p.slice(n)
	defer p.unslice()
	p.recover()
}

// recover does what comes after a power cut: mount, open; then asks for everything.
func (p *point) recover() {
	p.t.Helper()
	fail := func(err error) {
		if err != nil {
			p.found = append(p.found, err.Error())
		}
	}
	p.ok(p.mount())
	defer p.unmount()
	times := 1
	if p.number%8 == 0 {
		times = 2 // what was recovered needs no recovery
	}
	for range times {
		s, err := snapshot.Open(p.ctx(), options(p.root()))
		if err != nil {
			fail(fmt.Errorf("opening: %w", err))
			p.clear()
			return
		}
		v := verifier{s: s, h: &p.h, base: p.base, k: p.k, cut: true, recent: 200, sample: 4, chance: p.chance}
		p.found = append(p.found, v.all(p.ctx())...)
		p.read += v.read
		if p.number%8 == 0 {
			fail(useIt(s, p.base))
		}
		fail(s.Close(p.ctx()))
	}
	p.clear()
	fail(p.thinCheck())
}

// useIt does what a recovered store must be able to do.
func useIt(s *snapshot.Store, base snapshot.Image) error {
	_, err := s.Create(ctxOf(), "after", snapshot.CreateRequest{Parent: base.Layers[1]})
	if err == nil {
		err = s.Remove(ctxOf(), "after")
	}
	if err != nil {
		return fmt.Errorf("using it afterwards: %w", err)
	}
	return nil
}
