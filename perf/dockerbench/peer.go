package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"blockstore.dev/blockstore/internal/systrace"
	"blockstore.dev/blockstore/perf"
)

// peer is a storage driver with its own daemon.
type peer struct {
	name   string
	o      options
	report *perf.Report
	undo   *perf.Undo

	dir     string // everything of this peer's
	data    string // dockerd's data root
	storage string // dockerd's name for the driver
	note    string
	flags   []string // more flags for dockerd
	backing []string // the files whose allocation counts
	calls   *callLog // nil if dockerd serves itself
	host    string   // dockerd's address
	daemon  *process
	server  *process // our plugin's, nil if dockerd serves itself
	// counted is set while calls are counted: their report.
	counted *perf.Report
}

// startPeer prepares the storage and starts a dockerd on it.
func startPeer(ctx context.Context, o options, report *perf.Report, u *perf.Undo, dir string, name string) (*peer, error) {
	p := &peer{name: name, o: o, report: report, undo: u, dir: filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))}
	p.data = filepath.Join(p.dir, "data")
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		return nil, err
	}
	if err := driverOf(name).prepare(ctx, p); err != nil {
		return nil, fmt.Errorf("preparing %s: %w", name, err)
	}
	if err := p.startDocker(ctx); err != nil {
		return nil, fmt.Errorf("starting dockerd on %s: %w", name, err)
	}
	report.Columns = append(report.Columns, perf.Column{Name: name, Note: p.note})
	return p, nil
}

// startDocker starts a dockerd that shares nothing with another: it has no
// network, and the machine's configuration is not read.
func (p *peer) startDocker(ctx context.Context) error {
	config := filepath.Join(p.dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		return err
	}
	p.host = "unix://" + filepath.Join(p.dir, "d.sock")
	exe := filepath.Join(p.dir, "exec")
	args := append([]string{
		"--config-file", config, "--iptables=false", "--ip6tables=false", "--bridge=none",
		"--storage-driver", p.storage, "--data-root", p.data, "--exec-root", exe,
		"--pidfile", filepath.Join(p.dir, "pid"), "--host", p.host,
	}, p.flags...)
	proc, err := start(filepath.Join(p.dir, "dockerd.log"), p.o.dockerd, args...)
	if err != nil {
		return err
	}
	p.daemon = proc
	p.undo.Add("dockerd on "+p.name, func() error {
		err := proc.stop()
		_ = perf.UnmountAll(exe) // name spaces of a dockerd that was killed
		return err
	})
	return proc.await(ctx, 2*time.Minute, func() bool {
		_, err := p.docker(ctx, "version")
		return err == nil
	})
}

func (p *peer) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.o.docker, append([]string{"--host", p.host}, args...)...)
	// The client's own configuration is the user's.
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+p.dir, "DOCKER_CONTEXT=", "DOCKER_HOST=")
	return cmd
}

// docker runs a command that is not measured.
func (p *peer) docker(ctx context.Context, args ...string) (string, error) {
	return perf.OutputOf(p.command(ctx, args...))
}

// cost is what a command took, or several.
type cost struct {
	wall time.Duration   // as the user sees it, the client's start included
	each []time.Duration // of several commands
	own  time.Duration   // of it, while calls of our plugin ran
	// calls are set while calls are counted, and times are not worth anything then.
	calls systrace.Tally
}

// timed runs a command and says what it took.
func (p *peer) timed(cmd *exec.Cmd) (string, cost, error) {
	if p.counted != nil {
		out, calls, err := p.traced(cmd)
		if err != nil {
			return "", cost{}, fmt.Errorf("%s: %w", p.name, err)
		}
		return out, cost{calls: calls}, nil
	}
	return p.timedInARow(cmd)
}

// timedInARow runs commands one right after the other and says what they took. What they print is the last one's.
func (p *peer) timedInARow(cmds ...*exec.Cmd) (out string, c cost, err error) {
	// For all alike, whether they have a log or not: what ran a moment ago is warm.
	time.Sleep(logSettle)
	if p.calls != nil { // what came before is not these commands'
		if _, err := p.calls.next(); err != nil {
			return "", c, err
		}
	}
	for _, cmd := range cmds {
		begin := time.Now()
		out, err = perf.OutputOf(cmd)
		c.each = append(c.each, time.Since(begin))
		if err != nil {
			return "", c, fmt.Errorf("%s: %w", p.name, err)
		}
		c.wall += c.each[len(c.each)-1]
	}
	time.Sleep(logSettle)
	if p.calls != nil {
		calls, err := p.calls.next()
		if err != nil {
			return "", c, err
		}
		c.own = busy(calls)
	}
	return out, c, nil
}

// measure runs a docker command and puts its cost into a row.
func (p *peer) measure(ctx context.Context, row string, args ...string) (string, error) {
	out, c, err := p.timed(p.command(ctx, args...))
	if err == nil {
		p.add(row, c, 1)
	}
	return out, err
}

// add puts a cost into a row, and our plugin's part of it into one below.
func (p *peer) add(row string, c cost, shares int) {
	if p.counted != nil {
		if shares == 1 {
			p.addCalls(row, c.calls)
		}
		return
	}
	p.report.Add(row, perf.Seconds, p.name, c.wall.Seconds()/float64(shares))
	if p.calls != nil {
		p.report.AddPart(row, "in the plugin", perf.Seconds, p.name, c.own.Seconds()/float64(shares))
	}
}

// addEach puts what each of several commands took into a row, and the mean of our plugin's part into one below.
func (p *peer) addEach(row string, c cost) {
	for _, wall := range c.each {
		p.report.Add(row, perf.Seconds, p.name, wall.Seconds())
	}
	if p.calls != nil {
		p.report.AddPart(row, "in the plugin", perf.Seconds, p.name, c.own.Seconds()/float64(len(c.each)))
	}
}
