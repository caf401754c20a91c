package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

// served is a store of directories, with what works on it in this process.
type served struct {
	*testing.T
	root, sock string
	kind       *dirdriver.Kind
}

func newServed(t *testing.T, root string) *served {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	s := &served{T: t, root: root, sock: filepath.Join(t.TempDir(), "door", "test.sock"), kind: dirdriver.New()}
	require.NoError(t, snapshot.Init(t.Context(), s.kind, snapshot.InitOptions{Root: root, BaseSize: 1 << 30}, ""))
	files := openFiles(t)
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return !atWork() }, patience, time.Millisecond, "goroutines are left")
		require.Eventually(t, func() bool { return openFiles(t) <= files }, patience, time.Millisecond, "descriptors are left open")
		code, _, errs := s.run("destroy", "--yes")
		require.Equal(t, exitDone, code, errs)
		require.NoDirExists(t, root)
		require.Empty(t, s.kind.Faults.Violations())
	})
	return s
}

// app has the streams of a process: files.
func (s *served) app() *app {
	dir := s.TempDir()
	open := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(s, err)
		s.Cleanup(func() { require.NoError(s, f.Close()) })
		return f
	}
	a := newApp(open("stdin"), open("stdout"), open("stderr"))
	a.kinds, a.doors = []snapshot.Kind{s.kind}, append(a.doors, testDoor())
	return a
}

// atWork says whether any goroutine still serves or reads for a verb.
func atWork() bool {
	b := make([]byte, 1<<20)
	stacks := string(b[:runtime.Stack(b, true)])
	for _, of := range []string{".(*control).", ".(*service).", ".(*app).input.", ".(*app).watchForServer"} {
		if strings.Contains(stacks, of) {
			return true
		}
	}
	return false
}

func said(f any) string {
	b, _ := os.ReadFile(f.(*os.File).Name())
	return string(b)
}

// run is a command line's run: exit code, stdout, stderr.
func (s *served) run(args ...string) (int, string, string) {
	a := s.app()
	code := a.run(context.Background(), append([]string{"--root", s.root}, args...))
	return code, said(a.stdout), said(a.stderr)
}

// running is a server in this process.
type running struct {
	app    *app
	stop   context.CancelFunc
	states *net.UnixConn
	code   chan int
}

// serve starts a server and waits until it is ready. If the test does not end it,
// the cleanup does.
func (s *served) serve(args ...string) *running {
	s.Helper()
	addr := &net.UnixAddr{Net: "unixgram", Name: "@bstest-" + uuid.NewString()}
	states, err := net.ListenUnixgram("unixgram", addr)
	require.NoError(s, err)
	s.Setenv("NOTIFY_SOCKET", addr.Name)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{app: s.app(), stop: cancel, states: states, code: make(chan int, 1)}
	go func() {
		r.code <- r.app.run(ctx, append([]string{"--root", s.root, "serve", "--test", "--test-socket", s.sock}, args...))
		_ = states.SetReadDeadline(time.Now())
	}()
	s.Cleanup(func() {
		cancel()
		if r.code != nil {
			<-r.code
		}
		require.NoError(s, states.Close())
	})
	p := &serverProcess{states: states}
	require.NoError(s, p.await("READY=1"), said(r.app.stderr))
	return r
}

// end stops the server and gives its exit code.
func (r *running) end() int {
	r.stop()
	code := <-r.code
	r.code = nil
	return code
}

func TestServeNeedsADoor(t *testing.T) {
	a, out, errs := fakeApp("ext4")
	a.doors = doors()
	require.Equal(t, exitUsage, a.run(context.Background(), []string{"serve"}))
	require.Empty(t, out.String())
	require.Contains(t, errs.String(), "--docker")
	require.Contains(t, errs.String(), "--containerd")
}

func TestServedVerbs(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "store"))
	limit := debug.SetMemoryLimit(-1)
	r := s.serve()
	require.EqualValues(t, serveHeapGoal, debug.SetMemoryLimit(-1))
	require.Contains(t, said(r.app.stderr), "level=INFO", "what a server does is logged without being asked for")
	for _, path := range []string{filepath.Join(s.root, controlSocket), s.sock} {
		st, err := os.Lstat(path)
		require.NoError(t, err)
		require.Equal(t, os.ModeSocket|0o600, st.Mode())
	}
	code, out, errs := s.run("--json", "info")
	require.Equal(t, exitDone, code, errs)
	require.Contains(t, out, s.root)
	code, out, errs = s.run("mount", "nobody")
	require.Equal(t, exitNotFound, code)
	require.Empty(t, out)
	require.Contains(t, errs, `no container "nobody"`)
	for _, args := range [][]string{{"init"}, {"destroy", "--yes"}, {"serve", "--test"}} {
		code, out, errs = s.run(args...)
		require.Equal(t, exitInUse, code, args)
		require.Empty(t, out)
		require.Contains(t, errs, fmt.Sprintf("is served by pid %d", os.Getpid()))
		require.Contains(t, errs, fmt.Sprintf("kill %d", os.Getpid()))
	}
	require.Equal(t, exitDone, r.end(), said(r.app.stderr))
	require.Equal(t, limit, debug.SetMemoryLimit(-1))
	require.NoFileExists(t, s.sock)
	require.NoFileExists(t, filepath.Join(s.root, controlSocket))
	code, _, errs = s.run("check")
	require.Equal(t, exitDone, code, errs)
}

// TestServedLongPath: a socket's address holds 108 bytes.
func TestServedLongPath(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), strings.Repeat("long", 50), "store"))
	s.sock = filepath.Join(t.TempDir(), strings.Repeat("long", 50), "test.sock")
	r := s.serve()
	code, _, errs := s.run("ps")
	require.Equal(t, exitDone, code, errs)
	require.Contains(t, said(r.app.stderr), s.sock)
	code, _, _ = s.run("destroy", "--yes")
	require.Equal(t, exitInUse, code)
	require.Equal(t, exitDone, r.end())
}

func TestServedAtOnce(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "store"))
	s.serve()
	tar := filepath.Join(t.TempDir(), "empty.tar")
	require.NoError(t, os.WriteFile(tar, make([]byte, 1024), 0o600))
	code, _, errs := s.run("import", tar, "app:1")
	require.Equal(t, exitDone, code, errs)
	apps := make([]*app, 20)
	codes := make([]int, len(apps))
	var all sync.WaitGroup
	for i := range apps {
		apps[i] = s.app()
		all.Go(func() {
			codes[i] = apps[i].run(context.Background(), []string{"--root", s.root, "create", "--name", fmt.Sprint("c", i), "app:1"})
		})
	}
	all.Wait()
	for i, a := range apps {
		require.Equal(t, exitDone, codes[i], said(a.stderr))
		require.Equal(t, fmt.Sprintf("c%d\n", i), said(a.stdout))
	}
	code, out, errs := s.run("ps", "-q")
	require.Equal(t, exitDone, code, errs)
	require.Len(t, strings.Fields(out), len(apps))
}

// TestServeStopsGracefully: a call that is in flight ends as it would have.
func TestServeStopsGracefully(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "store"))
	r := s.serve()
	slow, err := dial(t.Context(), s.sock)
	require.NoError(t, err)
	talk := func() {
		_, err := slow.Write([]byte("x"))
		require.NoError(t, err)
		_, err = slow.Read(make([]byte, 1))
		require.NoError(t, err)
	}
	talk()
	r.stop()
	require.NoError(t, (&serverProcess{states: r.states}).await("STOPPING=1"))
	talk()
	require.NoError(t, slow.Close())
	require.Equal(t, exitDone, r.end(), said(r.app.stderr))
}

// stubbornDoor ends when the test does, whatever it is told.
type stubbornDoor struct{ end chan struct{} }

func (d stubbornDoor) Serve(context.Context, net.Listener) error { <-d.end; return nil }

func TestServiceGivesUp(t *testing.T) {
	a, _, _ := fakeApp("ext4")
	a.logLevel = "error"
	require.NoError(t, a.startLog())
	l, err := listenAt(t.Context(), filepath.Join(t.TempDir(), "sock"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	v := newService(a.log)
	v.stopWait, v.undoWait = time.Millisecond, time.Millisecond
	end := make(chan struct{})
	defer close(end)
	v.doors = []opened{{name: "stubborn", door: stubbornDoor{end}, Listener: l, made: l}}
	cancel()
	require.ErrorIs(t, v.run(ctx, "/x"), errStuck)
	require.ErrorIs(t, v.work.Err(), context.Canceled, "verbs are interrupted before it gives up")
	require.NoError(t, v.close())
}

func TestServiceEndsWithADoor(t *testing.T) {
	a, _, _ := fakeApp("ext4")
	a.logLevel = "error"
	require.NoError(t, a.startLog())
	v := newService(a.log)
	for _, name := range []string{"bad", "good"} {
		l, err := listenAt(t.Context(), filepath.Join(t.TempDir(), name))
		require.NoError(t, err)
		v.doors = append(v.doors, opened{name: name, door: echoDoor{}, Listener: l, made: l})
	}
	require.NoError(t, v.doors[0].Close())
	require.ErrorContains(t, v.run(t.Context(), "/x"), "serving bad: ")
	require.NoError(t, v.close())
}

// TestServeTakesSystemdsSockets: the socket is there before the server, and after
// it.
func TestServeTakesSystemdsSockets(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "store"))
	l, err := listenAt(t.Context(), filepath.Join(t.TempDir(), "systemds.sock"))
	require.NoError(t, err)
	f, err := l.File()
	require.NoError(t, err)
	early, err := dial(t.Context(), l.path)
	require.NoError(t, err)
	a := s.app()
	a.inherited = func() (map[string][]net.Listener, error) {
		taken, err := net.FileListener(f)
		other, err2 := net.Listen("tcp", "127.0.0.1:0")
		return map[string][]net.Listener{"test": {taken}, "other": {other}}, errors.Join(err, err2, f.Close())
	}
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int)
	go func() { code <- a.run(ctx, []string{"--root", s.root, "serve", "--test"}) }()
	_, err = early.Write([]byte("x"))
	require.NoError(t, err)
	_, err = early.Read(make([]byte, 1))
	require.NoError(t, err, said(a.stderr))
	require.NoError(t, early.Close())
	cancel()
	require.Equal(t, exitDone, <-code, said(a.stderr))
	require.Contains(t, said(a.stderr), "no door asked for")
	require.FileExists(t, l.path)
	require.NoFileExists(t, testDoor().socket)
	require.NoError(t, errors.Join(l.Close(), l.remove()))
}

// TestActivation: the environment as systemd sets it.
func TestActivation(t *testing.T) {
	bin, err := exec.LookPath("blockstore")
	require.NoError(t, err, "testscript puts this binary there")
	l, err := listenAt(t.Context(), filepath.Join(t.TempDir(), "systemds.sock"))
	require.NoError(t, err)
	defer func() { require.NoError(t, errors.Join(l.Close(), l.remove())) }()
	f, err := l.File()
	require.NoError(t, err)
	defer f.Close()
	root := filepath.Join(t.TempDir(), "store")
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=test exec "$0" --root "$1" serve --test`, bin, root)
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "no store at", "it comes as far as the store")
	require.NoFileExists(t, testDoor().socket)
}

// begin has a verb wait on its stdin in the server.
func (s *served) begin(ctx context.Context) (code chan int, a *app, stdin *os.File) {
	s.Helper()
	a = s.app()
	r, w, err := os.Pipe()
	require.NoError(s, err)
	s.Cleanup(func() { _ = r.Close(); _ = w.Close() })
	a.stdin = r
	code = make(chan int, 1)
	go func() { code <- a.run(ctx, []string{"--root", s.root, "import", "-", "never:1"}) }()
	// More than a pipe holds: when it is written, somebody reads.
	_, err = w.Write(make([]byte, 1<<20))
	require.NoError(s, err)
	return code, a, w
}

func TestServedVerbIsInterrupted(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "store"))
	r := s.serve()
	ctx, cancel := context.WithCancel(t.Context())
	code, a, stdin := s.begin(ctx)
	cancel()
	require.Equal(t, exitFailed, <-code)
	require.Contains(t, said(a.stderr), "interrupted")
	// The server has let go of the pipe.
	require.NoError(t, a.stdin.(*os.File).Close())
	require.Eventually(t, func() bool {
		_, err := stdin.Write([]byte("x"))
		return errors.Is(err, unix.EPIPE)
	}, patience, time.Millisecond)
	require.Equal(t, exitDone, r.end())
}

func TestServerStopsInTheMiddle(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "store"))
	store, err := snapshot.Open(t.Context(), snapshot.StoreOptions{Root: s.root, Kinds: []snapshot.Kind{s.kind}})
	require.NoError(t, err)
	c, v, end := s.control(store)
	_ = c
	code, a, _ := s.begin(t.Context())
	v.undo()
	require.Equal(t, exitFailed, <-code)
	require.Contains(t, said(a.stderr), "interrupted")
	end()
	require.NoError(t, store.Close(t.Context()))
}

// control is the command line's door alone, on a store that the test has open.
func (s *served) control(store *snapshot.Store) (*control, *service, func()) {
	s.Helper()
	a := s.app()
	a.root, a.logLevel = s.root, "debug"
	require.NoError(s, a.startLog())
	v := newService(a.log)
	require.NoError(s, a.openControl(s.Context(), keeper{service: v, events: newBackingEvents()}, store))
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan error)
	go func() { done <- v.doors[0].Serve(ctx, v.doors[0].Listener) }()
	return v.doors[0].door.(*control), v, func() {
		cancel()
		require.NoError(s, <-done)
		require.NoError(s, v.close())
	}
}

// TestServerComesWhileWaiting: who waits for the lock goes to the server that
// turns out to have it.
func TestServerComesWhileWaiting(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "store"))
	store, err := snapshot.Open(t.Context(), snapshot.StoreOptions{Root: s.root, Kinds: []snapshot.Kind{s.kind}})
	require.NoError(t, err)
	a := s.app()
	code := make(chan int)
	go func() { code <- a.run(t.Context(), []string{"--root", s.root, "--json", "ps"}) }()
	require.Eventually(t, func() bool { return strings.Contains(said(a.stderr), "waiting") }, patience, time.Millisecond)
	_, _, end := s.control(store)
	require.Equal(t, exitDone, <-code, said(a.stderr))
	require.Equal(t, "[]\n", said(a.stdout))
	end()
	require.NoError(t, store.Close(t.Context()))
}

func TestPanicEndsTheVerbOnly(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "store"))
	store, err := snapshot.Open(t.Context(), snapshot.StoreOptions{Root: s.root, Kinds: []snapshot.Kind{s.kind}})
	require.NoError(t, err)
	c, _, end := s.control(store)
	sound := c.newVerb
	c.newVerb = func(by caller, stdin, stdout, stderr *os.File) *app {
		a := sound(by, stdin, stdout, stderr)
		a.lent, a.euid = nil, func() int { panic("as the test wants") }
		return a
	}
	code, out, errs := s.run("ps")
	require.Equal(t, exitFailed, code)
	require.Empty(t, out)
	require.Contains(t, errs, "internal error: as the test wants")
	c.newVerb = sound
	code, _, errs = s.run("ps")
	require.Equal(t, exitDone, code, errs)
	end()
	require.NoError(t, store.Close(t.Context()))
}

// openFiles counts this process's descriptors.
func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

func TestMalformedHandshakes(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "store"))
	r := s.serve()
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	frame := func(body string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	fds := func(n int) []byte {
		list := make([]int, n)
		for i := range list {
			list[i] = int(null.Fd())
		}
		return unix.UnixRights(list...)
	}
	tests := []struct {
		name   string
		sent   []byte
		rights []byte
	}{
		{"nothing", nil, nil},
		{"half a length", []byte{0, 0}, fds(3)},
		{"half a body", frame(`{"args":[]}`)[:8], fds(3)},
		{"far too long", binary.BigEndian.AppendUint32(nil, 1<<31), fds(3)},
		{"no JSON", frame("GET / HTTP/1.1"), fds(3)},
		{"another JSON", frame(`{"args":"ps"}`), fds(3)},
		{"no streams", frame(`{"args":["cHM="]}`), nil},
		{"two streams", frame(`{"args":["cHM="]}`), fds(2)},
		{"more streams", frame(`{"args":["cHM="]}`), fds(40)},
	}
	before := openFiles(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := dial(t.Context(), filepath.Join(s.root, controlSocket))
			require.NoError(t, err)
			defer conn.Close()
			var h hello
			require.NoError(t, readFrame(conn, &h))
			require.Equal(t, controlProtocol, h.Protocol)
			if tt.sent != nil {
				_, _, err = conn.WriteMsgUnix(tt.sent, tt.rights, nil)
				require.NoError(t, err)
			}
			require.NoError(t, conn.CloseWrite())
			require.Error(t, readFrame(conn, &answer{}), "it hangs up")
		})
	}
	require.Eventually(t, func() bool { return openFiles(t) <= before }, patience, time.Millisecond, "descriptors are left open")
	code, _, errs := s.run("ps")
	require.Equal(t, exitDone, code, errs)
	require.Equal(t, exitDone, r.end())
}

// TestOtherVersions: a command line that says more, and is of another version, is
// served as well.
func TestOtherVersions(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "store"))
	s.serve()
	conn, err := dial(t.Context(), filepath.Join(s.root, controlSocket))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, readFrame(conn, &hello{}))
	a := s.app()
	files, err := a.streams()
	require.NoError(t, err)
	var raw map[string]any
	b, err := json.Marshal(call{Version: "v99", Args: [][]byte{[]byte("ps"), []byte("--size")}, Dir: []byte("/")})
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &raw))
	raw["unheard"] = "of"
	b, err = json.Marshal(raw)
	require.NoError(t, err)
	_, _, err = conn.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(b))), unix.UnixRights(int(files[0].Fd()), int(files[1].Fd()), int(files[2].Fd())), nil)
	require.NoError(t, err)
	_, err = conn.Write(b)
	require.NoError(t, err)
	err = (&server{conn: conn}).await()
	require.Equal(t, handedOver{exitDone}, err, said(a.stderr))
	require.Contains(t, said(a.stdout), "NAME")
}
