package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Exit statuses that are not the command's own.
const (
	exitUsage    = 2
	exitTimeout  = 124
	exitMachine  = 125
	exitNotFound = 127
)

// main is three programs: run on the host, the supervisor in its PID
// namespace, and the machine's init.
func main() {
	if work := os.Getenv(guestVar); work != "" && os.Getpid() == 1 {
		guest(work)
		return
	}
	if os.Getenv(supervisorVar) != "" && os.Getpid() == 1 {
		os.Exit(supervise(os.Args[0], os.Args[1:]))
	}
	os.Exit(host(os.Args[1:]))
}

// host boots a machine as the command line asks and returns the exit status.
func host(args []string) int {
	o, err := parseOptions(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "uml:", err)
		return exitUsage
	}
	ctx, stop := withSignals(context.Background())
	defer stop()
	status, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "uml:", err)
	}
	return status
}

// interrupted is the cancellation cause when a signal ended the run.
type interrupted struct{ signal syscall.Signal }

func (e interrupted) Error() string { return "stopped by signal: " + e.signal.String() }

// withSignals gives a context that the usual terminating signals cancel.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range signals {
			cancel(interrupted{s.(syscall.Signal)})
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		<-done
		cancel(nil)
	}
}
