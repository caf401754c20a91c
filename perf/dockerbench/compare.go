package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"blockstore.dev/blockstore/perf"
)

// compare is the whole run. What was measured until an error, or until an interruption, comes with it.
func compare(ctx context.Context, o options) (report *perf.Report, err error) {
	u := perf.Undo{Say: say}
	defer func() { err = errors.Join(err, u.Run()) }()
	dir, err := os.MkdirTemp(o.dir, "bstest-dockerbench-")
	if err != nil {
		return nil, err
	}
	u.Add(dir, func() error { return perf.RemoveDir(dir) })
	if report, err = newReport(ctx, o, dir); err != nil {
		return nil, err
	}
	say("making the image with the large file")
	large, err := newLargeImage(o.fileSize)
	if err != nil {
		return nil, err
	}
	var peers []*peer
	for _, name := range o.drivers {
		say("starting dockerd on %s", name)
		p, err := startPeer(ctx, o, report, &u, dir, name)
		if err != nil {
			return nil, err
		}
		peers = append(peers, p)
	}
	err = rounds(ctx, o, report, peers, large)
	if err == nil && !o.noCounts {
		err = count(ctx, report, peers, large)
	}
	if err != nil {
		return report.Stopped(err)
	}
	return report, nil
}

func rounds(ctx context.Context, o options, report *perf.Report, peers []*peer, large largeImage) error {
	for i := range max(o.rounds, o.vfsRounds) {
		in := slices.DeleteFunc(slices.Clone(peers), func(p *peer) bool { return i >= p.rounds() })
		// Who begins has what the one before left to do in the background.
		if i%2 == 1 {
			slices.Reverse(in)
		}
		for _, p := range in {
			if err := said(p, i, "begins", func() error { return p.take(ctx, p.before()...) }); err != nil {
				return err
			}
		}
		if err := createInTurns(ctx, in); err != nil {
			return err
		}
		for _, p := range in {
			if err := said(p, i, "goes on", func() error { return p.take(ctx, p.after(large)...) }); err != nil {
				return err
			}
		}
		if err := report.Keep(o.out); err != nil {
			return err
		}
	}
	return nil
}

// said tells of a part of a peer's round.
func said(p *peer, round int, what string, part func() error) error {
	begin := time.Now()
	say("round %d of %s %s", round+1, p.name, what)
	err := part()
	say("round %d of %s: %s", round+1, p.name, time.Since(begin).Round(time.Second))
	return err
}

// say tells a waiting person how far it is.
func say(format string, args ...any) {
	fmt.Fprintln(os.Stderr, "dockerbench:", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

func newReport(ctx context.Context, o options, dir string) (*perf.Report, error) {
	m, err := perf.ThisMachine(dir)
	if err != nil {
		return nil, err
	}
	if !o.noCounts {
		if err := perf.CanTrace(); err != nil {
			return nil, err
		}
	}
	r := &perf.Report{
		Title: "Docker's storage drivers " + m.Where(), Command: perf.CommandLine(), Begun: time.Now(), Machine: m,
		Against: []string{"overlay2", "devicemapper", "btrfs", "zfs"}, Environment: perf.Environment(),
		Notes: notes(o),
		Versions: map[string]string{
			"dockerd": versionOf(ctx, o.dockerd, "--version"),
			"docker":  versionOf(ctx, o.docker, "--version"),
			"runc":    versionOf(ctx, "runc", "--version"),
		},
	}
	subjects := slices.DeleteFunc(slices.Clone(o.drivers), func(name string) bool { return !strings.HasPrefix(name, ours) })
	if len(subjects) > 0 {
		r.Subject = subjects[0]
		r.Targets = targets(o, r.Subject)
	}
	if len(subjects) == 1 { // a page may have several such reports
		r.Title += ", " + strings.TrimPrefix(r.Subject, ours)
	}
	if o.needsBlockstore() {
		r.Versions["blockstore"] = versionOf(ctx, o.blockstore, "version")
	}
	return r, nil
}

func notes(o options) []string {
	return []string{
		fmt.Sprintf("Times are a whole docker command's, the client's start included: the row of `docker ps` is what a command costs that does nothing to storage. A first write and overwrites are measured inside the container, in a file of %d MiB in the image's only layer. Cold: the kernel's caches were dropped before. Warm: the container had read the whole file. After the warm first write the file is partly in the page cache for everybody.", o.fileSize>>20),
		fmt.Sprintf("\"In the plugin\" is the time in which at least one call of our server ran, from its log. vfs makes %d containers in a round where the others make %d; the drivers create them in turns, %d one right after the other. Allocated is what the backing files hold after fstrim of the mounted file systems.", o.vfsCrowd, o.containers, turn),
		"Counts are what dockerd and, with blockstore, its server call for one command, and the programs that they start, by strace in a round of its own, without vfs; what the client, containerd and runc call is not in them. " + perf.CallsNote,
	}
}

// toNowhere lets a command write its output into the null device.
func toNowhere(cmd *exec.Cmd) (func() error, error) {
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	cmd.Stdout = f
	return f.Close, nil
}
