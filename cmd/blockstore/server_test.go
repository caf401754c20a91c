package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// patience bounds every wait of these tests for something that comes at once.
const patience = 20 * time.Second

// testDoor is the door "test" of the binary under test: it gives back what it is
// sent. A connection is a call.
func testDoor() doorKind {
	return doorKind{
		name: "test", socket: "/run/bstest-door.sock", about: "a test",
		open: func(*snapshot.Store, doorOptions) (door, error) { return echoDoor{}, nil },
	}
}

type echoDoor struct{}

func (echoDoor) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		calls.Go(func() {
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		})
	}
}

// serverProcess is a `blockstore serve` that is ready.
type serverProcess struct {
	cmd    *exec.Cmd
	states *net.UnixConn // what it tells systemd
	log    *bytes.Buffer
	dead   chan struct{}
}

// startServer starts the command (blockstore, or something that becomes it) and
// waits until it tells that it is ready.
func startServer(cmd *exec.Cmd) (*serverProcess, error) {
	addr := &net.UnixAddr{Net: "unixgram", Name: "@bstest-" + uuid.NewString()}
	states, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		return nil, err
	}
	p := &serverProcess{cmd: cmd, states: states, log: &bytes.Buffer{}, dead: make(chan struct{})}
	cmd.Env = append(cmd.Environ(), "NOTIFY_SOCKET="+addr.Name)
	cmd.Stderr = p.log
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, states.Close())
	}
	go func() {
		_ = cmd.Wait()
		_ = states.SetReadDeadline(time.Now())
		close(p.dead)
	}()
	if err := p.await("READY=1"); err != nil {
		p.end(unix.SIGKILL)
		return nil, fmt.Errorf("no server: %w: %s", err, p.log)
	}
	return p, nil
}

// await waits for a state, such as READY=1.
func (p *serverProcess) await(state string) error {
	for {
		b := make([]byte, 4096)
		n, err := p.states.Read(b)
		if err != nil {
			return err
		}
		if strings.HasPrefix(string(b[:n]), state) {
			return nil
		}
	}
}

// end sends a signal, waits, and gives the exit code, -1 if it was killed.
func (p *serverProcess) end(sig os.Signal) int {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.dead:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.dead
	}
	_ = p.states.Close()
	return p.cmd.ProcessState.ExitCode()
}

// serveArgs serve a store through the test's door below work.
func serveArgs(root, work string) []string {
	return []string{"--root", root, "serve", "--test", "--test-socket", filepath.Join(work, "door", "test.sock")}
}
