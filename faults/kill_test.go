package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/snapshot/thin"
)

// The environment of the child that is killed.
const (
	killRoot = "BLOCKSTORE_FAULTS_ROOT"
	killSeed = "BLOCKSTORE_FAULTS_SEED"
)

// told is a line of what the child says: an operation is begun or done, and what it does. Objects are named.
type told struct {
	What string // begun or done
	Op   int
	Text string

	Made                *toldObject   `json:",omitempty"`
	Removed, Filled, In string        `json:",omitempty"`
	File                string        `json:",omitempty"`
	Sum                 digest.Digest `json:",omitempty"`
}

type toldObject struct {
	Name    string
	Kind    snapshot.SnapshotKind
	Image   bool
	Was     string                   `json:",omitempty"`
	Files   map[string]digest.Digest // that it begins with
	DiffIDs []digest.Digest
}

func named(o *object) string {
	if o == nil {
		return ""
	}
	return o.name
}

func telling(o *op, what string, e effect) told {
	t := told{What: what, Op: o.id, Text: o.what}
	if what != "begun" {
		return t
	}
	t.Removed, t.Filled, t.In, t.File, t.Sum = named(e.removed), named(e.filled), named(e.in), e.file, e.sum
	if m := e.made; m != nil {
		t.Made = &toldObject{Name: m.name, Kind: m.kind, Image: m.image, Was: named(m.was), DiffIDs: m.diffIDs, Files: map[string]digest.Digest{}}
		for name, c := range m.files {
			t.Made.Files[name] = c.sum
		}
	}
	return t
}

// hear adds to a history what a child has said. Its lines are numbered from 1 on, and are the history's clock. The last one
// may have been cut off by the kill, where it begins a new page of the file: then it was not said.
func (h *history) hear(path string, clock int) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return clock, err
	}
	defer f.Close()
	byName := map[string]*object{"": nil}
	for _, o := range h.objects {
		byName[o.name] = o
	}
	ops := map[int]*op{}
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return clock, nil
		}
		var t told
		if err == nil {
			err = json.Unmarshal(line, &t)
		}
		if err != nil {
			return clock, err
		}
		if clock++; t.What == "done" {
			ops[t.Op].done = clock
			continue
		}
		o := &op{id: len(h.ops), what: t.Text, begun: clock, done: never}
		h.ops, ops[t.Op] = append(h.ops, o), o
		e := effect{removed: byName[t.Removed], filled: byName[t.Filled], file: t.File, sum: t.Sum}
		if m := t.Made; m != nil {
			e.made = &object{name: m.Name, kind: m.Kind, image: m.Image, was: byName[m.Was], diffIDs: m.DiffIDs, files: map[string]content{}}
			for name, sum := range m.Files {
				e.made.files[name] = content{sum: sum} // synced before
			}
			h.objects, byName[m.Name] = append(h.objects, e.made), e.made
		}
		e.in = byName[t.In]
		e.apply(o)
	}
}

// TestHearCutOff: what was not said to its end counts as not said; all before it counts.
func TestHearCutOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "told")
	begun, err := json.Marshal(told{What: "begun", Op: 3, Text: "create"})
	require.NoError(t, err)
	done, err := json.Marshal(told{What: "done", Op: 3})
	require.NoError(t, err)
	whole := slices.Concat(begun, []byte("\n"), done, []byte("\n"))
	for cut := range whole {
		require.NoError(t, os.WriteFile(path, whole[:cut], 0o600))
		var h history
		clock, err := h.hear(path, 0)
		require.NoError(t, err)
		require.Equal(t, bytes.Count(whole[:cut], []byte("\n")), clock)
		require.Len(t, h.ops, clock)
		for _, o := range h.ops {
			require.Equal(t, never, o.done)
		}
	}
}

// killChild works on a store until it is killed.
func killChild(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv(killSeed), 10, 64)
	require.NoError(t, err)
	out, err := os.OpenFile(filepath.Join(filepath.Dir(os.Getenv(killRoot)), "told"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	var mu sync.Mutex
	h := &history{mark: func(o *op, what string, e effect) error {
		mu.Lock()
		defer mu.Unlock()
		b, err := json.Marshal(telling(o, what, e))
		if err == nil {
			_, err = out.Write(append(b, '\n')) // one write: it is there whole or not at all
		}
		return err
	}}
	s, err := snapshot.Open(ctxOf(), options(os.Getenv(killRoot)))
	require.NoError(t, err)
	s.KeepSpares()
	base, err := s.Image(ctxOf(), "base:1")
	require.NoError(t, err)
	_, err = os.Stdout.WriteString("working\n")
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			w := &worker{h: h, s: s, base: base, number: int(seed)*10 + i, chance: rand.New(rand.NewPCG(seed, uint64(i)))}
			for err := error(nil); err == nil; {
				if err = w.step(); err != nil {
					_, _ = os.Stdout.WriteString("failed: " + err.Error() + "\n")
				}
			}
		})
	}
	wg.Wait()
}

// TestKill kills the process at random moments, again and again, each time on what the last one left.
func TestKill(t *testing.T) {
	if os.Getenv(killRoot) != "" {
		killChild(t)
		return
	}
	r := newRig(t)
	where(t)
	seed, kills := number(t, "SEED", 1), number(t, "KILLS", 15)
	root := filepath.Join(r.dir, "store")
	r.ok(snapshot.Init(r.ctx(), thin.Kind{}, snapshot.InitOptions{Root: root, BaseSize: 64 << 20, Loopback: 512 << 20}, "the fault programme"))
	s, err := snapshot.Open(r.ctx(), options(root))
	r.ok(err)
	base := loadBase(t, s)
	r.ok(s.Close(r.ctx()))
	t.Cleanup(func() { r.destroy(root) })
	k := killing{rig: r, root: root, base: base, chance: rand.New(rand.NewPCG(uint64(seed), 7))}
	begun := time.Now()
	for i := range kills {
		k.round(i + 1000*seed)
		if i%50 == 49 {
			t.Logf("%d kills after %v", i+1, time.Since(begun).Round(time.Second))
		}
	}
	t.Logf("%d kills, %d of them in the middle of an operation, %d operations acknowledged, %d layers and containers read",
		kills, k.midway, k.acknowledged, k.read)
	require.Greater(t, k.midway, kills/2, "kills hit operations")
}

type killing struct {
	*rig
	root   string
	base   snapshot.Image
	h      history
	clock  int
	chance *rand.Rand

	midway, acknowledged, read int
}

// round has a child work for a moment, kills it, opens the store and asks for everything.
func (k *killing) round(seed int) {
	k.t.Helper()
	before := len(k.h.ops)
	k.child(seed)
	var err error
	k.clock, err = k.h.hear(filepath.Join(k.dir, "told"), k.clock)
	k.ok(err)
	k.ok(os.Remove(filepath.Join(k.dir, "told")))
	cut := false
	for _, o := range k.h.ops[before:] {
		if o.done == never {
			cut = true
		} else {
			k.acknowledged++
		}
	}
	if cut {
		k.midway++
	}
	s, err := snapshot.Open(k.ctx(), options(k.root))
	k.ok(err, "opening after a kill, seed %d", seed)
	v := verifier{s: s, h: &k.h, base: k.base, k: never - 1, sample: 2, chance: k.chance, recent: 40}
	v.k = k.clock + 1
	found := v.all(k.ctx())
	require.Empty(k.t, found, "after a kill, seed %d", seed)
	k.read += v.read
	k.tidy(s)
	k.ok(s.Close(k.ctx()))
	left, err := mount.Below(k.root)
	k.ok(err)
	require.Empty(k.t, left, "mounts are left after a kill, seed %d", seed)
}

// child runs until it has worked for a random time, and dies.
func (k *killing) child(seed int) {
	k.t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKill$", "-test.count=1")
	cmd.Env = append(os.Environ(), killRoot+"="+k.root, killSeed+"="+strconv.Itoa(seed))
	pipe, err := cmd.StdoutPipe()
	k.ok(err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	k.ok(cmd.Start())
	said := bufio.NewReader(pipe)
	line, err := said.ReadString('\n')
	require.Equal(k.t, "working\n", line, "%v %s", err, stderr.String())
	timer := time.AfterFunc(time.Duration(k.chance.IntN(1500))*time.Millisecond, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	rest := make([]byte, 4096)
	n, _ := said.Read(rest)
	require.Zero(k.t, n, "the child failed before it was killed: %s", rest[:n])
	var exit *exec.ExitError
	require.True(k.t, errors.As(cmd.Wait(), &exit))
	status, ok := exit.Sys().(interface{ Signal() unix.Signal })
	require.True(k.t, ok && status.Signal() == unix.SIGKILL, "the child ended by itself: %v", exit)
}

// survivors is how many objects of earlier children stay, to be there after the next kills too.
const survivors = 8

// tidy unmounts what a dead child had mounted and removes the oldest of what is left.
func (k *killing) tidy(s *snapshot.Store) {
	k.t.Helper()
	all, err := s.List(k.ctx())
	k.ok(err)
	there := map[string]bool{}
	for _, in := range all {
		there[in.Name] = true
		if in.Mounted != "" {
			k.ok(s.Unmount(k.ctx(), in.Name))
		}
	}
	images, err := s.Images(k.ctx())
	k.ok(err)
	for _, im := range images {
		for _, ref := range im.Refs {
			there[ref] = true
		}
	}
	var left []*object
	for _, o := range k.h.objects {
		if there[o.name] {
			left = append(left, k.settled(s, o))
		}
	}
	removed := map[*object]bool{}
	for again := true; again; {
		again = false
		for _, o := range left {
			if removed[o] || !o.untold && len(left)-len(removed) <= survivors {
				continue
			}
			if o.image {
				_, _, err = s.RemoveImage(k.ctx(), o.name, false)
			} else {
				err = s.Remove(k.ctx(), o.name)
			}
			if errors.Is(err, snapshot.ErrBusy) { // others stand on it
				continue
			}
			k.ok(err)
			removed[o], again = true, true
		}
	}
	k.h.objects = nil
	for _, o := range left {
		if !removed[o] {
			k.h.objects = append(k.h.objects, o)
		}
	}
}

// settled is an object as it is, whatever was under way: from now on it is held to that.
func (k *killing) settled(s *snapshot.Store, o *object) *object {
	k.t.Helper()
	now := &object{name: o.name, kind: o.kind, image: o.image, diffIDs: o.diffIDs, files: map[string]content{}}
	if o.image {
		return now
	}
	in, err := s.Stat(k.ctx(), o.name)
	k.ok(err)
	now.kind = in.Kind
	for name, c := range o.files {
		if c.by == nil || c.by.done != never || c.by == o.filled && in.Kind == snapshot.KindLayer {
			now.files[name] = content{sum: c.sum}
		}
	}
	return now
}

// destroy removes a store and sees that nothing is left.
func (r *rig) destroy(root string) {
	r.t.Helper()
	r.ok(snapshot.Destroy(r.ctx(), options(root)))
	require.NoFileExists(r.t, root)
}
