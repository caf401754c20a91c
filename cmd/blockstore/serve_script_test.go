package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// TestServedScripts runs the scripts of everyday work once more while a server
// has the store: every verb is handed over, and nothing may look different.
func TestServedScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute: the scripts run once more, a process for each command")
	}
	for _, k := range kinds() {
		t.Run(k.Name(), func(t *testing.T) {
			if only := os.Getenv("BSTEST_DRIVER"); only != "" && only != k.Name() {
				t.Skipf("BSTEST_DRIVER asks for %s only", only)
			}
			if err := k.Probe(context.Background()); err != nil {
				t.Skip(err)
			}
			p := scripts(k.Name(), t.TempDir())
			p.Dir = ""
			for _, name := range []string{"containers", "hostile", "images", "interrupt", "lifecycle", "pool", "rootfs"} {
				p.Files = append(p.Files, filepath.Join("testdata/script", name+".txtar"))
			}
			setup := p.Setup
			p.Setup = func(e *testscript.Env) error {
				e.Setenv("SERVED", "yes")
				return setup(e)
			}
			testscript.Run(t, p)
		})
	}
}

// serverSlot holds a script's server.
type serverSlot struct{ *serverProcess }

func slotOf(ts *testscript.TestScript) *serverSlot { return ts.Value("server").(*serverSlot) }

// cmdServe starts a server on the script's store.
func cmdServe(ts *testscript.TestScript, _ bool, args []string) {
	slot := slotOf(ts)
	if slot.serverProcess != nil {
		ts.Fatalf("there is a server already")
	}
	bin, err := exec.LookPath("blockstore")
	ts.Check(err)
	cmd := exec.Command(bin, append(serveArgs(ts.Getenv("STORE"), ts.Getenv("WORK")), args...)...)
	cmd.Dir = "/" // so that a relative name that is looked up here is not found
	slot.serverProcess, err = startServer(cmd)
	ts.Check(err)
}

// cmdWatchpool has the script's store served by pool watch, whose events go into a file.
func cmdWatchpool(ts *testscript.TestScript, _ bool, args []string) {
	slot := slotOf(ts)
	if slot.serverProcess != nil {
		ts.Fatalf("there is a server already")
	}
	bin, err := exec.LookPath("blockstore")
	ts.Check(err)
	events, err := os.Create(ts.MkAbs("events"))
	ts.Check(err)
	defer events.Close()
	cmd := exec.Command(bin, append([]string{"--root", ts.Getenv("STORE"), "--json", "pool", "watch"}, args...)...)
	cmd.Dir, cmd.Stdout = "/", events
	slot.serverProcess, err = startServer(cmd)
	ts.Check(err)
}

// cmdAwaitevent waits for an event of a kind among those that pool watch has told.
func cmdAwaitevent(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: awaitevent KIND")
	}
	tick, limit := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for {
		for line := range strings.Lines(ts.ReadFile("events")) {
			var e snapshot.BackingEvent
			if json.Unmarshal([]byte(line), &e) == nil && e.Kind == args[0] {
				return
			}
		}
		select {
		case <-tick.C:
		case <-limit:
			ts.Fatalf("no event %s: %s", args[0], ts.ReadFile("events"))
		}
	}
}

// cmdStop stops the server as systemd does.
func cmdStop(ts *testscript.TestScript, _ bool, _ []string) {
	slot := slotOf(ts)
	if code := slot.end(unix.SIGTERM); code != 0 {
		ts.Fatalf("the server ended with exit code %d: %s", code, slot.log)
	}
	ts.Logf("the server's log:\n%s", slot.log)
	slot.serverProcess = nil
	for _, name := range []string{ts.Getenv("STORE") + "/" + controlSocket, ts.Getenv("WORK") + "/door/test.sock"} {
		if _, err := os.Lstat(name); err == nil {
			ts.Fatalf("the server left %s", name)
		}
	}
}

// cmdCrash kills the server.
func cmdCrash(ts *testscript.TestScript, _ bool, _ []string) {
	slot := slotOf(ts)
	slot.end(unix.SIGKILL)
	slot.serverProcess = nil
}
