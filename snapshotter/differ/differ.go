package differ

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"blockstore.dev/blockstore/snapshot"
)

// DefaultAddress is where containerd listens unless it is told otherwise.
const DefaultAddress = "/run/containerd/containerd.sock"

// Options of a Differ. The zero value is ready.
type Options struct {
	// Address is the path of containerd's socket; "" is DefaultAddress.
	Address string
	// Log takes one line per call, at level debug, or error for calls that fail for
	// other reasons than that they are another differ's or that the client went away.
	Log *slog.Logger
}

// Differ serves one store to one containerd. Its methods may be called by many
// goroutines at once.
type Differ struct {
	diffapi.UnimplementedDiffServer

	store *snapshot.Store
	log   *slog.Logger
	peer  peer
}

var _ diffapi.DiffServer = (*Differ)(nil)

// New makes a differ on an open store. containerd is connected to with the first call
// that needs it, and again when it was restarted. Close ends the connection.
func New(store *snapshot.Store, o Options) (*Differ, error) {
	if o.Address == "" {
		o.Address = DefaultAddress
	}
	if !strings.HasPrefix(o.Address, "/") {
		return nil, fmt.Errorf("containerd's address %q is not the path of a socket: %w", o.Address, snapshot.ErrInvalid)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p, err := dial(o.Address)
	if err != nil {
		return nil, fmt.Errorf("connecting to containerd: %w", err)
	}
	return &Differ{store: store, log: o.Log, peer: p}, nil
}

// Register has a server answer for the differ.
func (d *Differ) Register(s grpc.ServiceRegistrar) { diffapi.RegisterDiffServer(s, d) }

// Close ends the connection to containerd. Calls under way fail: stop the server that
// the differ is registered with first.
func (d *Differ) Close() error { return d.peer.conn.Close() }

// answered writes the line of a call and gives its error containerd's code.
func (d *Differ) answered(call string, err error, about ...any) error {
	if err != nil {
		about = append(about, "error", err)
	}
	level := slog.LevelDebug
	if err != nil && !errors.Is(err, errdefs.ErrNotImplemented) && !errors.Is(err, context.Canceled) {
		level = slog.LevelError
	}
	d.log.Log(context.Background(), level, call, about...)
	return toGRPC(err)
}

var _ io.Closer = (*Differ)(nil)
