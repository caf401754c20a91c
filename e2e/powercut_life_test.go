package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A line that the host takes begins with saying, and goes on with a word and an operation:
// one begins, it is done, or it turned out undone after the power had gone.
const (
	saying = "power: "
	begins = "begin"
	done   = "done"
	undone = "undone"
)

// Operations.
const (
	opOpen        = "open"
	opLoad        = "load"   // IMAGE
	opCreate      = "create" // CONTAINER IMAGE
	opWrite       = "write"  // CONTAINER FILE
	opCommit      = "commit" // CONTAINER IMAGE
	opRemove      = "rm"     // CONTAINER
	opRemoveImage = "rmi"    // IMAGE
)

// most is how many images and how many containers there are at most.
const most = 5

// kept is what an image or a container has beside the image that was loaded: files named by numbers.
type kept struct {
	loaded string
	image  string // of a container: the image that it was made of
	files  []string
}

// world is what a store has by what was acknowledged.
type world struct {
	images, containers map[string]kept
	next               int      // number of the next image, container or file
	pending            []string // an operation that was begun, and whose end nobody has heard of
}

func newWorld() *world {
	return &world{images: map[string]kept{}, containers: map[string]kept{}}
}

// follow takes a line of the journal.
func (w *world) follow(word string, op []string) {
	switch word {
	case begins:
		w.pending = op
	case undone:
		w.pending = nil
	case done:
		w.pending = nil
		w.apply(op)
	}
	for _, name := range op[1:] {
		if n, err := strconv.Atoi(strings.TrimLeft(name, "ic")); err == nil {
			w.next = max(w.next, n+1)
		}
	}
}

func (w *world) apply(op []string) {
	switch op[0] {
	case opLoad:
		w.images[op[1]] = kept{loaded: op[1]}
	case opCreate:
		c := w.images[op[2]]
		w.containers[op[1]] = kept{loaded: c.loaded, image: op[2], files: c.files}
	case opWrite:
		c := w.containers[op[1]]
		c.files = append(slices.Clip(c.files), op[2])
		w.containers[op[1]] = c
	case opCommit:
		c := w.containers[op[1]]
		w.images[op[2]] = kept{loaded: c.loaded, files: c.files}
	case opRemove:
		delete(w.containers, op[1])
	case opRemoveImage:
		delete(w.images, op[1])
	}
}

// choose is an operation of a kind, or one that makes one possible.
func (w *world) choose(kind string, random *rand.Rand) []string {
	pick := func(m map[string]kept) string {
		names := slices.Sorted(maps.Keys(m))
		return names[random.IntN(len(names))]
	}
	number := strconv.Itoa(w.next)
	switch {
	case kind == opLoad && len(w.images) < most:
		return []string{opLoad, "i" + number}
	case kind == opLoad:
		return w.choose(opRemoveImage, random)
	case kind == opCreate && len(w.images) == 0:
		return w.choose(opLoad, random)
	case kind == opCreate && len(w.containers) >= most:
		return w.choose(opRemove, random)
	case kind == opCreate:
		return []string{opCreate, "c" + number, pick(w.images)}
	case kind == opRemoveImage:
		free := maps.Clone(w.images)
		for _, c := range w.containers {
			delete(free, c.image)
		}
		switch {
		case len(free) > 0:
			return []string{opRemoveImage, pick(free)}
		case len(w.containers) > 0:
			return w.choose(opRemove, random)
		}
		return w.choose(opLoad, random)
	case len(w.containers) == 0:
		return w.choose(opCreate, random)
	case kind == opRemove:
		return []string{opRemove, pick(w.containers)}
	case kind == opCommit && len(w.images) >= most:
		return w.choose(opRemoveImage, random)
	}
	c := pick(w.containers)
	if kind == opCommit && len(w.containers[c].files) > 0 {
		return []string{opCommit, c, "i" + number}
	}
	return []string{opWrite, c, number}
}

// life is one life of a machine.
type life struct {
	*store
	world  *world
	random *rand.Rand
	dir    string // of the machine's own disk
}

// live is what TestPowerCut does in the machine.
func live(t *testing.T, kind string) {
	disk, top := poweredBy(t, os.Getenv("BLOCKSTORE_MACHINE")).disk, "/run/power"
	require.NoError(t, os.MkdirAll(top, 0o700))
	if kind == lifeFirst {
		command(t, "mkfs.ext4", "-q", disk)
	}
	// What mount(8) reports of a journal is the last life's: ext4 replays it.
	require.NoError(t, unix.Mount(disk, top, "ext4", 0, ""))
	seed, err := strconv.ParseUint(os.Getenv(powerSeed), 10, 64)
	require.NoError(t, err)
	l := &life{
		store: &store{t: t, bin: binary(t), root: filepath.Join(top, "store")},
		world: newWorld(), random: rand.New(rand.NewPCG(seed, 1)), dir: scratch(t),
	}
	if kind == lifeFirst {
		l.run("init", "--driver", driver(t), "--loopback", "4G")
		say(done, "init")
		command(t, "sync")
		return
	}
	l.remember()
	l.awake()
	if kind == lifeLast {
		l.run("destroy", "--yes")
		require.NoDirExists(t, l.root)
		require.NoError(t, unix.Unmount(top, 0), "something is left that uses it")
		return
	}
	target := os.Getenv(powerTarget)
	kinds := []string{opLoad, opCreate, opWrite, opCommit, opRemove, opRemoveImage}
	for {
		l.do(l.world.choose(kinds[l.random.IntN(len(kinds))], l.random))
		// The first one often prepares the target. Each is some steps away at most.
		for range 6 {
			op := l.world.choose(target, l.random)
			l.do(op)
			if op[0] == target {
				break
			}
		}
	}
}

func say(word string, op ...string) { fmt.Println(saying + word + " " + strings.Join(op, " ")) }

// remember reads what was acknowledged before.
func (l *life) remember() {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(os.Getenv(powerShare), journal))
	require.NoError(l.t, err)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[1] != opOpen {
			l.world.follow(f[0], f[1:])
		}
	}
}

// awake opens the store after the power has gone: it is whole, and has what it must have.
func (l *life) awake() {
	l.t.Helper()
	say(begins, opOpen)
	r := l.try("check", "--content")
	require.Zero(l.t, r.code, "check after a power cut in the middle of %v: %s%s", l.world.pending, r.stdout, r.stderr)
	say(done, opOpen)
	l.settle()
	l.mustHave()
}

// settle finds out whether what nobody has heard the end of has happened.
func (l *life) settle() {
	l.t.Helper()
	op := l.world.pending
	if op == nil {
		return
	}
	images, containers := l.names()
	happened := false
	switch op[0] {
	case opLoad:
		happened = slices.Contains(images, op[1])
	case opCommit:
		happened = slices.Contains(images, op[2])
	case opCreate:
		happened = slices.Contains(containers, op[1])
	case opRemove:
		happened = !slices.Contains(containers, op[1])
	case opRemoveImage:
		happened = !slices.Contains(images, op[1])
	}
	word := undone // a file that was being written may be there in part, and is not looked at
	if happened {
		word = done
	}
	say(word, op...)
	l.world.follow(word, op)
}

// names are those of images and containers that the store has.
func (l *life) names() (images, containers []string) {
	l.t.Helper()
	var found []struct{ Refs []string }
	l.json(&found, "images")
	for _, i := range found {
		for _, ref := range i.Refs {
			name, _, _ := strings.Cut(ref, ":")
			images = append(images, name)
		}
	}
	return images, strings.Fields(l.run("ps", "-q"))
}

// mustHave: the images and containers are those of the world, with their content.
func (l *life) mustHave() {
	l.t.Helper()
	images, containers := l.names()
	require.ElementsMatch(l.t, slices.Collect(maps.Keys(l.world.images)), images)
	require.ElementsMatch(l.t, slices.Collect(maps.Keys(l.world.containers)), containers)
	for name, c := range l.world.containers {
		l.mustShow(name, c)
	}
	for name, c := range l.world.images {
		l.run("create", "--name", "look", name)
		l.mustShow("look", c)
		l.run("rm", "look")
	}
}

func (l *life) mustShow(container string, c kept) {
	l.t.Helper()
	dir := l.run("mount", container)
	defer l.run("umount", container)
	for _, name := range append([]string{c.loaded}, c.files...) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(l.t, err, "a file of %s that was acknowledged", container)
		require.True(l.t, bytes.Equal(fileContent(name), text), "%s of %s has other content", name, container)
	}
}

// fileContent is what a file of this name has.
func fileContent(name string) []byte { return bytes.Repeat([]byte(name+"\n"), 10_000) }

// do does an operation, and says so before and afterwards.
func (l *life) do(op []string) {
	l.t.Helper()
	say(begins, op...)
	switch op[0] {
	case opLoad:
		l.run("load", "-i", l.archive(op[1]))
	case opCreate:
		l.run("create", "--name", op[1], op[2])
	case opWrite:
		l.write(op[1], op[2])
	case opCommit:
		l.run("commit", op[1], op[2])
	case opRemove:
		l.run("rm", op[1])
	case opRemoveImage:
		l.run("rmi", op[1])
	}
	say(done, op...)
	l.world.follow(done, op)
}

// write makes a file in a container, durably.
func (l *life) write(container, name string) {
	l.t.Helper()
	dir := l.run("mount", container)
	defer l.run("umount", container)
	f, err := os.Create(filepath.Join(dir, name))
	require.NoError(l.t, err)
	_, err = f.Write(fileContent(name))
	require.NoError(l.t, err)
	require.NoError(l.t, f.Sync())
	require.NoError(l.t, f.Close())
	top, err := os.Open(dir)
	require.NoError(l.t, err)
	require.NoError(l.t, top.Sync())
	require.NoError(l.t, top.Close())
}

// archive is an image of three layers: one that others have too, one of many files, one with the file that tells it.
func (l *life) archive(name string) string {
	l.t.Helper()
	n, err := strconv.Atoi(strings.TrimPrefix(name, "i"))
	require.NoError(l.t, err)
	shared := newLayer(l.t).file(fmt.Sprintf("shared%d", n%3), string(fileContent(strconv.Itoa(n%3))))
	many := newLayer(l.t)
	noise := rand.New(rand.NewPCG(uint64(n), 2))
	for i := range 60 {
		text := make([]byte, 16<<10)
		for j := range text {
			text[j] = byte(noise.Uint32())
		}
		many.file(fmt.Sprintf("many%d", i), string(text))
	}
	own := newLayer(l.t).file(name, string(fileContent(name)))
	return archive{layers: [][]byte{shared.bytes(), many.bytes(), own.bytes()}, tag: name}.write(l.t, l.dir)
}
