package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/metrics"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshotter/differ"
)

// serveHeapGoal is the heapGoal of a process that works for many at once.
const serveHeapGoal = 512 << 20

// serveDoor is what the flags say about one door.
type serveDoor struct {
	asked  bool
	socket string
}

// serveFlags are what serve was asked for: its doors, in the order of app.doors.
type serveFlags struct {
	doors      []serveDoor
	containerd string // the socket on which containerd listens
	watch      watchFlags
	metrics    string // where Prometheus is answered, "" for nowhere
}

func (a *app) serveCommand() *cobra.Command {
	var config string
	flags := serveFlags{doors: make([]serveDoor, len(a.doors))}
	var names, uses []string
	for _, k := range a.doors {
		names = append(names, "--"+k.name)
		uses = append(uses, fmt.Sprintf("[--%s] [--%s-socket PATH]", k.name, k.name))
	}
	cmd := a.command(spec{
		use:   strings.TrimSpace("serve " + strings.Join(uses, " ") + " [--metrics ADDR]"),
		short: "keep the store open and serve it to others, such as Docker",
		long: `Keeps the store open and serves it on unix sockets, which are root's only. While
it runs, every other verb works as before: the server does it. The verbs init,
destroy and a second serve are refused.

` + watchHelp + `
"pool watch" shows what it tells.

Sockets that systemd made are taken by their FileDescriptorName, which is the
door's name, and need no flag. --metrics answers Prometheus (docs/metrics.md), with
other doors or alone; it has no password, so that only a unix socket, which is
root's, and addresses that other machines cannot reach are taken. SIGTERM or Ctrl-C stops gracefully: calls end, mounts stay.`,
		example: "blockstore serve --docker --containerd\n" +
			"blockstore serve --docker --metrics 127.0.0.1:9750\n" +
			"blockstore serve --print-containerd-config 1.7 >>/etc/containerd/config.toml",
		logLevel: "info",
		run: func(ctx context.Context, _ []string) error {
			if config != "" {
				return a.printContainerdConfig(config, flags)
			}
			return a.serve(ctx, flags, append(names, "--"+metricsDoor))
		},
	})
	cmd.Flags().StringVar(&flags.containerd, "containerd-address", differ.DefaultAddress, "`PATH` of the socket on which containerd itself listens: there diffs find its blobs")
	cmd.Flags().StringVar(&flags.metrics, metricsDoor, "", "serve metrics to Prometheus at `ADDR`: unix:/PATH or a loopback address such as 127.0.0.1:9750")
	cmd.Flags().StringVar(&config, "print-containerd-config", "", fmt.Sprintf("print what containerd of this `VERSION` (%s) needs in its configuration, and end", strings.Join(containerdVersions(), ", ")))
	flags.watch.add(cmd.Flags())
	for i, k := range a.doors {
		cmd.Flags().BoolVar(&flags.doors[i].asked, k.name, false, "serve "+k.about)
		cmd.Flags().StringVar(&flags.doors[i].socket, k.name+"-socket", "", fmt.Sprintf("`PATH` of its socket (default %s); implies --%s", k.socket, k.name))
	}
	return cmd
}

func (a *app) serve(ctx context.Context, flags serveFlags, names []string) (err error) {
	if err := a.mustBeRoot(); err != nil {
		return err
	}
	if err := a.refuseServed(ctx); err != nil {
		return err
	}
	watch, err := flags.watch.options(repairCommand(a.root))
	if err != nil {
		return err
	}
	var at metricsAddress
	if flags.metrics != "" {
		if at, err = parseMetricsAddress(flags.metrics); err != nil {
			return err
		}
	}
	inherited, err := a.inherited()
	if err != nil {
		return err
	}
	defer func() {
		for _, list := range inherited { // what no door has taken
			err = errors.Join(err, closeListeners(list))
		}
	}()
	asked := flags.metrics != ""
	for i, k := range a.doors {
		d := &flags.doors[i]
		d.asked = d.asked || d.socket != "" || len(inherited[k.name]) > 0
		asked = asked || d.asked
	}
	if !asked {
		return usagef("serve needs a door: name at least one of %s", strings.Join(names, ", "))
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(serveHeapGoal))
	v := newService(a.log)
	v.tell("STATUS=opening the store at " + a.root)
	s, served, err := a.openStore(ctx)
	switch {
	case err != nil:
		return err
	case served != nil:
		return errors.Join(served.busy(), served.conn.Close())
	}
	s.KeepSpares()
	k := keeper{service: v, events: newBackingEvents(), options: watch}
	for i, kind := range a.doors {
		k.gauge = k.gauge || kind.gauge && flags.doors[i].asked
	}
	if flags.metrics != "" {
		if k.metrics, err = a.openMetrics(ctx, v, s, at); err != nil {
			return k.closed(ctx, s, err)
		}
	}
	events, stop := k.events.listen()
	defer stop()
	var readers sync.WaitGroup
	readers.Go(func() { logEvents(events, a.log) })
	if k.metrics != nil {
		counted, stop := k.events.listen()
		defer stop()
		readers.Go(func() {
			for e := range counted {
				k.metrics.Event(e)
			}
		})
	}
	err = a.keep(ctx, k, s, func(ctx context.Context) error {
		return a.openDoors(ctx, v, s, serving{flags, inherited, k.metrics})
	})
	readers.Wait()
	return err
}

// openControl makes the command line's door: from then on, other verbs come to us.
func (a *app) openControl(ctx context.Context, k keeper, s *snapshot.Store) error {
	unit, v := systemdUnit(), k.service
	socket, err := listenAt(ctx, filepath.Join(a.root, controlSocket))
	if err != nil {
		return err
	}
	v.doors = append(v.doors, opened{name: "the command line", Listener: socket, made: socket, door: &control{
		hello: hello{Protocol: controlProtocol, Version: a.versionOut().Version, Unit: unit},
		log:   a.log,
		verbs: v.work,
		newVerb: func(by caller, stdin, stdout, stderr *os.File) *app {
			return &app{
				stdin: stdin, stdout: stdout, stderr: stderr,
				kinds: a.kinds, euid: a.euid, fsType: a.fsType, doors: a.doors, inherited: a.inherited,
				lent:    &lent{store: s, events: k.events, root: a.root, unit: unit, caller: by, stopping: ctx.Done()},
				observe: observer(k.metrics, cliDoor),
			}
		},
	}})
	return nil
}

// serving is what the doors are made of.
type serving struct {
	serveFlags
	inherited map[string][]net.Listener
	metrics   *metrics.Metrics // nil if nobody asks for them
}

// openDoors makes the doors that are asked for.
func (a *app) openDoors(ctx context.Context, v *service, s *snapshot.Store, of serving) error {
	version := a.versionOut().Version
	for i, k := range a.doors {
		f := of.doors[i]
		if !f.asked {
			continue
		}
		if f.socket == "" {
			f.socket = k.socket
		}
		d, err := k.open(s, doorOptions{
			log: a.log.With("door", k.name), version: version, containerd: of.containerd, observe: observer(of.metrics, k.name),
		})
		if err != nil {
			return err
		}
		o, err := takeSocket(ctx, k.name, f.socket, of.inherited)
		if err != nil {
			return err
		}
		o.door = d
		v.doors = append(v.doors, o)
	}
	for name := range of.inherited {
		a.log.Warn("a socket of systemd that no door asked for", "name", name)
	}
	return nil
}
