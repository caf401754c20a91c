package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/snapshot"
)

const (
	defaultRoot = "/var/lib/blockstore"
	// lockWait is how long a verb waits for another process that has the store.
	lockWait = time.Minute
)

// app is one run of the command line: its streams, its global flags and what it
// asks of the machine. Tests put their own in.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	// kinds are the drivers in this program, in the order in which `auto` tries
	// them.
	kinds []snapshot.Kind
	// euid is who runs the program.
	euid func() int
	// fsType names the file system that a directory lies on.
	fsType func(dir string) (string, error)
	// doors are the ways in that serve can open.
	doors []doorKind
	// inherited are the sockets that systemd made for this process, by name.
	inherited func() (map[string][]net.Listener, error)
	// lent is set while a server does the verb for another process.
	lent *lent
	// observe, if set, is told of each verb's end.
	observe func(verb string, took time.Duration, err error)

	// args is the command line as it was given.
	args     []string
	root     string
	json     bool
	logLevel string
	log      *slog.Logger
	// began is set when a verb's own code starts: an error before it is a mistake
	// in the command line.
	began bool
}

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return newApp(stdin, stdout, stderr).run(ctx, args)
}

// newApp is the program as it is installed.
func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	return &app{
		stdin: stdin, stdout: stdout, stderr: stderr,
		kinds: kinds(), euid: os.Geteuid, fsType: fsType,
		doors: doors(), inherited: activation.ListenersWithNames,
	}
}

func (a *app) run(ctx context.Context, args []string) int {
	a.args = args
	cmd := a.rootCommand()
	cmd.SetArgs(args)
	cmd.SetIn(a.stdin)
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	err := cmd.ExecuteContext(ctx)
	var done handedOver
	if errors.As(err, &done) {
		return done.code
	}
	var u usageError
	if err != nil && !a.began && !errors.As(err, &u) {
		err = usageError{err}
	}
	a.report(err)
	return outcomeOf(err).code
}

// failure is an error as --json shows it, one line on stderr.
type failure struct {
	Error string `json:"error"`
	Kind  string `json:"kind"`
	Code  int    `json:"code"`
	Mend  string `json:"mend,omitempty"`
}

// report tells a person, or a program, what went wrong and how to mend it.
func (a *app) report(err error) {
	if err == nil {
		return
	}
	o, mend := outcomeOf(err), mendOf(err, a.root)
	if mend == "" && o.code == exitUsage {
		mend = "blockstore help"
	}
	if a.json {
		_ = json.NewEncoder(a.stderr).Encode(failure{err.Error(), o.kind, o.code, mend})
		return
	}
	// Joined errors come one to a line.
	for _, line := range strings.Split(strings.TrimSpace(err.Error()), "\n") {
		fmt.Fprintf(a.stderr, "blockstore: %s\n", line)
	}
	if mend != "" {
		fmt.Fprintf(a.stderr, "  to mend it: %s\n", mend)
	}
}

// verb is what a command does once its flags are read.
type verb func(ctx context.Context, args []string) error

// do makes a verb a cobra command's RunE.
func (a *app) do(s spec) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if s.logLevel != "" && !cmd.Flags().Changed("log-level") {
			a.logLevel = s.logLevel
		}
		if err := a.startLog(); err != nil {
			return err
		}
		a.began = true
		start := time.Now()
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel() // what still reads for the verb ends with it
		err := s.run(ctx, args)
		if a.observe != nil {
			a.observe(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" "), time.Since(start), err)
		}
		a.log.Debug("verb finished", "verb", cmd.CommandPath(), "took", time.Since(start), "error", err)
		return err
	}
}

func (a *app) startLog() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return usagef("--log-level %q: it must be debug, info, warn or error", a.logLevel)
	}
	a.log = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
	return nil
}

// mustBeRoot is asked before anything else that touches a store.
func (a *app) mustBeRoot() error {
	if uid := a.euid(); uid != 0 {
		return fmt.Errorf("user %d may not work on the store at %s: %w", uid, a.root, errNotRoot)
	}
	return nil
}

func (a *app) storeOptions() snapshot.StoreOptions {
	return snapshot.StoreOptions{
		Root: a.root, Kinds: a.kinds, Wait: lockWait,
		Waiting: func(holder string) {
			fmt.Fprintf(a.stderr, "waiting for another process that has the store: %s\n", holder)
		},
	}
}

// emit prints the result of a verb: value as one JSON document with --json, else
// what text writes.
func (a *app) emit(value any, text func(w io.Writer)) error {
	var b bytes.Buffer
	if a.json {
		e := json.NewEncoder(&b)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(value); err != nil {
			return err
		}
	} else {
		text(&b)
	}
	_, err := a.stdout.Write(b.Bytes())
	return err
}
