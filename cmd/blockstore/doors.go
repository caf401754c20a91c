package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"blockstore.dev/blockstore/graphdriver"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshotter"
)

// door is a way into the store for others than the command line. Serve returns
// nil after ctx is done and the calls in flight have ended.
type door interface {
	Serve(ctx context.Context, l net.Listener) error
}

// doorOptions are what every door is given.
type doorOptions struct {
	log        *slog.Logger
	version    string
	containerd string // the socket on which containerd listens
	// observe is told of each call's end; nil if nobody asks.
	observe func(method string, took time.Duration, err error)
}

// doorKind is a door that serve can open.
type doorKind struct {
	// name is the door's flag, and the name of its socket among systemd's
	// (FileDescriptorName).
	name string
	// socket is where it listens by default.
	socket string
	// about completes "serve ...".
	about string
	// gauge: those who come ask statfs(2) how full the store is.
	gauge bool
	open  func(*snapshot.Store, doorOptions) (door, error)
}

// doors are the doors that this program has.
func doors() []doorKind {
	return []doorKind{
		{name: "docker", socket: "/run/docker/plugins/blockstore.sock", about: "Docker, as a graphdriver plugin", open: openDocker},
		{name: "containerd", socket: containerdSocket, about: "containerd, as a proxy plugin for snapshots and diffs", gauge: true, open: openContainerd},
	}
}

func openDocker(s *snapshot.Store, o doorOptions) (door, error) {
	return graphdriver.New(s, graphdriver.Options{Log: o.log, Version: o.version, Observe: o.observe})
}

const containerdSocket = "/run/blockstore/containerd.sock"

func openContainerd(s *snapshot.Store, o doorOptions) (door, error) {
	return snapshotter.New(s, snapshotter.Options{Log: o.log, Containerd: o.containerd, Observe: o.observe})
}

// opened is a door with the socket that it listens on.
type opened struct {
	name string
	door
	net.Listener
	// made is the socket if this process made it: it is removed at the end.
	made *socket
}

// address is the name of its socket: what listenAt bound is a name for us only.
func (o opened) address() string {
	if o.made != nil {
		return o.made.path
	}
	return o.Addr().String()
}

// close takes the socket away; systemd's stay where they are.
func (o opened) close() error {
	err := ignore(o.Listener.Close(), net.ErrClosed)
	if o.made != nil {
		err = errors.Join(err, o.made.remove())
	}
	return err
}

// takeSocket gives a door the socket that systemd made for it, or else makes the
// one at path.
func takeSocket(ctx context.Context, name, path string, inherited map[string][]net.Listener) (opened, error) {
	if list := inherited[name]; len(list) > 0 {
		delete(inherited, name)
		if len(list) > 1 {
			return opened{}, errors.Join(usagef("%d sockets of systemd have FileDescriptorName=%s: one is wanted", len(list), name), closeListeners(list))
		}
		return opened{name: name, Listener: list[0]}, nil
	}
	s, err := listenAt(ctx, path)
	if err != nil {
		return opened{}, fmt.Errorf("opening the door %s: %w", name, err)
	}
	return opened{name: name, Listener: s, made: s}, nil
}

func closeListeners(list []net.Listener) error {
	var errs []error
	for _, l := range list {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
