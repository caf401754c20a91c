package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"blockstore.dev/blockstore/perf"
)

// pluginDir is where dockerd looks for plugins' sockets.
const pluginDir = "/run/docker/plugins"

// server is blockstore, serving one dockerd.
type server struct {
	name  string // of the plugin
	root  string
	calls *callLog
}

// root is where blockstore keeps this peer's store.
func (p *peer) root() string { return filepath.Join(p.dir, "store") }

// storeCommand is one of blockstore's own, which its server answers.
func (p *peer) storeCommand(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, p.o.blockstore, append([]string{"--root", p.root()}, args...)...)
}

// serveBlockstore makes a store and starts a server on it.
func serveBlockstore(ctx context.Context, p *peer, inner string) (server, error) {
	s := server{
		name: fmt.Sprintf("bstest%d-%s", os.Getpid(), inner),
		root: p.root(),
	}
	if _, err := perf.Output(ctx, p.o.blockstore, "--root", s.root, "init", "--driver", inner,
		"--loopback", strconv.FormatInt(p.o.diskSize, 10)); err != nil {
		return s, err
	}
	p.undo.Add(s.root, func() error {
		back, cancel := perf.Undoing()
		defer cancel()
		_, err := perf.Output(back, p.o.blockstore, "--root", s.root, "destroy", "--yes")
		return err
	})
	socket, err := pluginSocket(p.undo, s.name)
	if err != nil {
		return s, err
	}
	log := filepath.Join(p.dir, "blockstore.log")
	proc, err := start(log, p.o.blockstore, "--log-level", "debug", "--root", s.root, "serve", "--docker", "--docker-socket", socket)
	if err != nil {
		return s, err
	}
	p.undo.Add("blockstore's server", proc.stop)
	p.server = proc
	s.calls = &callLog{path: log}
	return s, proc.await(ctx, time.Minute, func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// pluginSocket is where dockerd looks for a plugin of that name.
func pluginSocket(u *perf.Undo, name string) (string, error) {
	if err := os.MkdirAll(pluginDir, 0o755); err != nil {
		return "", err
	}
	u.Add(pluginDir, func() error {
		_ = os.Remove(pluginDir) // unless others have sockets there
		return nil
	})
	socket := filepath.Join(pluginDir, name+".sock")
	u.Add(socket, func() error { return os.RemoveAll(socket) })
	return socket, nil
}

// versionOf is a program's own words, on one line.
func versionOf(ctx context.Context, name string, args ...string) string {
	text, err := perf.Output(ctx, name, args...)
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(first)
}
