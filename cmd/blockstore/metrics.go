package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"blockstore.dev/blockstore/metrics"
	"blockstore.dev/blockstore/snapshot"
)

// metricsDoor is the name of Prometheus's door.
const metricsDoor = "metrics"

// metricsAddress is where Prometheus is answered: on the unix socket path, or on the loopback address tcp.
type metricsAddress struct {
	path string
	tcp  netip.AddrPort
}

// parseMetricsAddress takes unix:/PATH, IP:PORT and localhost:PORT. What others than this machine's processes could
// reach is refused: there is no password, and Prometheus's own way to one is a proxy.
func parseMetricsAddress(text string) (metricsAddress, error) {
	bad := func(why string) (metricsAddress, error) {
		return metricsAddress{}, usagef("--metrics %q: %s; give it as unix:/PATH, or a loopback address such as 127.0.0.1:9750", text, why)
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		switch {
		case strings.HasPrefix(path, "@"):
			return bad("an abstract socket has no mode, so that everybody could connect")
		case !filepath.IsAbs(path):
			return bad("the socket's path must be absolute")
		}
		return metricsAddress{path: filepath.Clean(path)}, nil
	}
	host, port, err := net.SplitHostPort(text)
	switch {
	case err != nil:
		return bad("it is no address with a port")
	case host == "":
		return bad("it names no host, which means every network of this machine, and metrics have no password")
	case host == "localhost":
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	switch {
	case err != nil:
		return bad("it is no IP address with a port number; names are not looked up, but for localhost")
	case !addr.Addr().Unmap().IsLoopback():
		return bad(fmt.Sprintf("%s is no loopback address, so that other machines could read it, and metrics have no password", host))
	}
	return metricsAddress{tcp: addr}, nil
}

// listen opens the address.
func (m metricsAddress) listen(ctx context.Context) (opened, error) {
	if m.path != "" {
		return takeSocket(ctx, metricsDoor, m.path, nil)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", m.tcp.String())
	if err != nil {
		return opened{}, fmt.Errorf("opening the door %s: %w", metricsDoor, err)
	}
	return opened{name: metricsDoor, Listener: l}, nil
}

// cliDoor is what operations of the command line are counted as.
const cliDoor = "cli"

// openMetrics makes what a server counts, and Prometheus's door to it.
func (a *app) openMetrics(ctx context.Context, v *service, s *snapshot.Store, at metricsAddress) (*metrics.Metrics, error) {
	program := a.versionOut()
	m := metrics.New(s, metrics.Options{Version: program.Version, Revision: program.Revision, Log: a.log.With("door", metricsDoor)})
	o, err := at.listen(ctx)
	if err != nil {
		return nil, err
	}
	o.door = m
	v.doors = append(v.doors, o)
	return m, nil
}

// observer counts one door's operations, nil without metrics.
func observer(m *metrics.Metrics, door string) func(string, time.Duration, error) {
	if m == nil {
		return nil
	}
	return func(method string, took time.Duration, err error) { m.Operation(door, method, took, err) }
}
