package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The environment of TestPowerCut: how often each driver's machine is ended, which drivers' (all), and which machine:
// uml (the default) or vm.
const (
	powerCuts    = "BLOCKSTORE_POWER_CUTS"
	powerDrivers = "BLOCKSTORE_POWER_DRIVERS"
	powerMachine = "BLOCKSTORE_POWER_MACHINE"
)

// powered is a kind of machine that can be ended.
type powered struct {
	run     string // boots one
	program string // is the machine, on the host
	disk    string // in the machine
}

func poweredBy(t *testing.T, kind string) powered {
	t.Helper()
	all := map[string]powered{
		"uml": {"../vagrant/uml/run", "linux.uml", "/dev/ubda"},
		"vm":  {"../vagrant/vm/run", "qemu-system-x86_64", "/dev/vda"},
	}
	require.Contains(t, all, kind, powerMachine)
	return all[kind]
}

// What a machine's life is told: where the host has put what was acknowledged before, what to do and
// in the middle of which operation its power will go.
const (
	powerLife   = "BLOCKSTORE_POWER_LIFE"
	powerShare  = "BLOCKSTORE_POWER_SHARE"
	powerTarget = "BLOCKSTORE_POWER_TARGET"
	powerSeed   = "BLOCKSTORE_POWER_SEED"
)

// The lives of a machine.
const (
	lifeFirst = "first" // makes the store
	lifeWork  = "work"  // looks whether everything is there, then works until it is ended
	lifeLast  = "last"  // looks, and destroys the store
)

// journal is the file of the share with what all lives before have said.
const journal = "journal"

// The operations in the middle of which the power goes, by turns. During opening the store recovers from the cut before.
var cutTargets = []string{opLoad, opCommit, opRemove, opRemoveImage, opOpen}

// TestPowerCut ends a machine, its memory and all, in the middle of loads, commits, removals and
// recoveries. The next life opens the store: check finds nothing, what was acknowledged is there with its content, what
// was in the middle happened wholly or not at all.
//
// The program that is the machine is killed, so the disk keeps what the machine had handed over to it, flushed or not: what is lost is the
// machine's memory, page cache and all that had not yet been sent.
func TestPowerCut(t *testing.T) {
	if life := os.Getenv(powerLife); life != "" {
		live(t, life)
		return
	}
	if os.Getenv("BLOCKSTORE_MACHINE") != "" {
		t.Skip("it boots machines itself: on the machine's own kernel")
	}
	if testing.Short() {
		t.Skip("a minute and a half: it boots machines")
	}
	n := len(cutTargets)
	if text := os.Getenv(powerCuts); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err, powerCuts)
	}
	kind := cmp.Or(os.Getenv(powerMachine), "uml")
	machine := poweredBy(t, kind)
	if _, err := exec.LookPath(machine.program); err != nil {
		t.Skipf("no %s: scripts/deps installs it", machine.program)
	}
	drivers := strings.Fields(os.Getenv(powerDrivers))
	if len(drivers) == 0 {
		drivers = []string{"zfs", "btrfs", "devicemapper"}
	}
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) { cutPower(t, machine, driver, n) })
	}
}

func cutPower(t *testing.T, machine powered, driver string, n int) {
	dir := scratch(t)
	m := &mains{
		powered: machine, t: t, driver: driver, file: filepath.Join(dir, "disk"), share: filepath.Join(dir, "share"),
		random: rand.New(rand.NewPCG(rand.Uint64(), 0)), took: map[string]time.Duration{},
	}
	require.NoError(t, os.WriteFile(m.file, nil, 0o600))
	require.NoError(t, os.Truncate(m.file, 8<<30))
	require.NoError(t, os.Mkdir(m.share, 0o700))
	m.live(lifeFirst, "")
	cuts := map[string]int{}
	for i := range n {
		target := cutTargets[i%len(cutTargets)]
		in := m.live(lifeWork, target)
		cuts[in]++
		t.Logf("cut %d of %d, aimed at %s: %s", i+1, n, target, in)
	}
	m.live(lifeLast, "")
	t.Logf("%s: %d power cuts survived, in the middle of: %v", driver, n, cuts)
}

// mains is the power supply of machines that share a disk, one after the other.
type mains struct {
	powered
	t           *testing.T
	driver      string
	file, share string // the disk's file
	random      *rand.Rand
	took        map[string]time.Duration // operations, when last seen
}

// live boots a machine for one life, and returns in the middle of which operation it was ended, if it was to be.
func (m *mains) live(life, target string) (in string) {
	m.t.Helper()
	self, err := os.Executable()
	require.NoError(m.t, err)
	cmd := exec.Command(m.run, "--mem", "2G", "--timeout", "30m", "--timer-slack", "1ms", "--disk", m.file, "--share", m.share,
		"-e", powerLife+"="+life, "-e", powerTarget+"="+target, "-e", powerShare+"="+m.share, "-e", "BSTEST_DRIVER="+m.driver,
		"-e", powerSeed+"="+strconv.FormatUint(m.random.Uint64(), 10),
		"--", self, "-test.run=^TestPowerCut$", "-test.v", "-test.timeout=29m")
	cmd.Env = append(os.Environ(), "BLOCKSTORE_BIN="+binary(m.t))
	out, err := cmd.StdoutPipe()
	require.NoError(m.t, err)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	require.NoError(m.t, cmd.Start())
	said := m.listen(out, target)
	err = cmd.Wait()
	if life == lifeWork {
		require.True(m.t, said.cut, "the machine ended by itself: %v\n%s%s", err, said.text, errs.String())
	} else {
		require.NoError(m.t, err, "%s%s", said.text, errs.String())
	}
	if strings.Contains(said.text, noZFS) {
		m.t.Skip(noZFS)
	}
	m.keep(said.lines)
	return said.in
}

// speech is what a life said.
type speech struct {
	lines []string // of the journal
	text  string   // all of it
	cut   bool     // the power went
	in    string   // the middle of this
}

// listen reads what a machine says until it is ended, by itself or by us: some time after it
// has begun with the target.
func (m *mains) listen(out io.Reader, target string) speech {
	var (
		said  speech
		begun = map[string]time.Time{}
		once  sync.Once
		cut   = make(chan struct{})
	)
	in := bufio.NewScanner(out)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		said.text += in.Text() + "\n"
		line, ours := strings.CutPrefix(in.Text(), saying)
		if !ours {
			continue
		}
		said.lines = append(said.lines, line)
		f := strings.Fields(line)
		switch {
		case f[0] == begins:
			said.in = f[1] + ", begun"
			begun[f[1]] = time.Now()
			if f[1] == target {
				once.Do(func() {
					usual, known := m.took[target]
					if !known {
						usual = 2 * time.Second
					}
					time.AfterFunc(time.Duration(m.random.Int64N(int64(usual+usual/4))), func() {
						m.end()
						close(cut)
					})
				})
			}
		case f[0] == done:
			said.in = f[1] + ", done"
			// A machine may be heard of late, of the beginning and the end at once; and an operation that the life before had begun ends without.
			if at, ok := begun[f[1]]; ok {
				m.took[f[1]] = max(time.Since(at), 10*time.Millisecond)
			}
		}
	}
	select {
	case <-cut:
		said.cut = true
	default:
	}
	return said
}

// keep adds to the journal that the next life reads.
func (m *mains) keep(lines []string) {
	m.t.Helper()
	f, err := os.OpenFile(filepath.Join(m.share, journal), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(m.t, err)
	for _, line := range lines {
		_, err := fmt.Fprintln(f, line)
		require.NoError(m.t, err)
	}
	require.NoError(m.t, f.Close())
}

// end kills the machine that has this disk, which is several processes where its programs are processes of the host's.
func (m *mains) end() {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		program, args, _ := strings.Cut(string(text), "\x00")
		if filepath.Base(program) != m.program || !strings.Contains(args, m.file) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// TestPowerCutWorld: what the machine is to do next is always possible, leads to the target in a few steps, and
// stays within bounds; the journal that it writes tells the next life the same world.
func TestPowerCutWorld(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	w, told := newWorld(), newWorld()
	for range 500 {
		target := []string{opLoad, opCreate, opWrite, opCommit, opRemove, opRemoveImage}[random.IntN(6)]
		for step := 0; ; step++ {
			require.Less(t, step, 8, "%s is too far away", target)
			op := w.choose(target, random)
			switch op[0] {
			case opLoad:
				require.NotContains(t, w.images, op[1])
			case opCreate:
				require.NotContains(t, w.containers, op[1])
				require.Contains(t, w.images, op[2])
			case opRemoveImage:
				require.Contains(t, w.images, op[1])
				for _, c := range w.containers {
					require.NotEqual(t, op[1], c.image, "it is in use")
				}
			default:
				require.Contains(t, w.containers, op[1])
			}
			w.follow(done, op)
			told.follow(begins, op)
			require.Equal(t, op, told.pending)
			told.follow(done, op)
			require.LessOrEqual(t, len(w.images), most)
			require.LessOrEqual(t, len(w.containers), most)
			if op[0] == target {
				break
			}
		}
	}
	require.Equal(t, w, told)
	told.follow(begins, []string{opRemove, "c1"})
	told.follow(undone, []string{opRemove, "c1"})
	require.Equal(t, w, told)
}
