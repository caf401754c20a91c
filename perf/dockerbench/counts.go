package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"blockstore.dev/blockstore/internal/systrace"
	"blockstore.dev/blockstore/perf"
)

const (
	// attachWait is for strace to have all threads of the daemons, which are some dozen each.
	attachWait = time.Minute
	// callSettle is for what daemons still do of a command that has ended.
	callSettle = 200 * time.Millisecond
)

// count lets the peers go through one more round, in which what their daemons call is counted and nothing is timed. vfs is
// left out: under strace its copying takes too long.
func count(ctx context.Context, report *perf.Report, peers []*peer, large largeImage) error {
	for _, p := range peers {
		if p.name == "vfs" {
			continue
		}
		say("counting the calls of %s", p.name)
		p.counted, p.report = report, &perf.Report{}
		if err := p.round(ctx, large); err != nil {
			return fmt.Errorf("counting the calls: %w", err)
		}
	}
	report.DropEmptyParts()
	return nil
}

// addCalls puts what the daemons called for a command into the parts of its row.
func (p *peer) addCalls(row string, calls systrace.Tally) {
	if !p.counted.Has(row) {
		return
	}
	for _, c := range perf.CallCounts() {
		p.counted.AddPart(row, "dockerd and its plugin: "+c.Name, perf.Count, p.name, float64(c.Number(calls)))
	}
}

// traced runs a command while the daemons' calls are counted. The client's own are none.
func (p *peer) traced(cmd *exec.Cmd) (out string, calls systrace.Tally, err error) {
	pids := []int{p.daemon.cmd.Process.Pid}
	if p.server != nil {
		pids = append(pids, p.server.cmd.Process.Pid)
	}
	file := filepath.Join(p.dir, "trace")
	defer os.Remove(file)
	detach, err := attach(file, pids)
	if err != nil {
		return "", nil, err
	}
	out, err = perf.OutputOf(cmd)
	time.Sleep(callSettle)
	if err = errors.Join(err, detach()); err != nil {
		return "", nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	calls, err = systrace.ReadWhole(f)
	return out, calls, err
}

// attach has strace trace the processes into file, until detach.
func attach(file string, pids []int) (detach func() error, err error) {
	cmd := exec.Command("strace", systrace.AttachArguments(file, pids...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	says, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// A process of many threads is said to be attached when all of them are.
	attached, ended := make(chan struct{}), make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(says)
		var text strings.Builder
		missing := len(pids)
		for lines.Scan() {
			fmt.Fprintln(&text, lines.Text())
			if missing > 0 && strings.Contains(lines.Text(), " attached") {
				if missing--; missing == 0 {
					close(attached)
				}
			}
		}
		_, _ = io.Copy(io.Discard, says) // a line that is too long
		ended <- text.String()
	}()
	detach = func() error {
		err := cmd.Process.Signal(syscall.SIGINT)
		<-ended
		_ = cmd.Wait() // it ends by the signal
		return err
	}
	select {
	case <-attached:
		return detach, nil
	case text := <-ended:
		return nil, fmt.Errorf("strace ended: %w: %s", cmd.Wait(), text)
	case <-time.After(attachWait):
		return nil, errors.Join(fmt.Errorf("strace did not attach to processes %v within %s", pids, attachWait), detach())
	}
}
