package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/containerd/log"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "containerdbench:", err)
		}
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	counting := len(args) > 0 && args[0] == countVerb
	if counting {
		args = args[1:]
	}
	o, err := parseOptions(args, os.Stderr)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("it mounts file systems and makes loop devices: it needs root")
	}
	// What containerd's snapshotters log of their own accord is not for the table's reader.
	if err := log.SetLevel("error"); err != nil {
		return err
	}
	if counting {
		return countInside(ctx, o)
	}
	report, err := compare(ctx, o)
	if report == nil {
		return err
	}
	return errors.Join(report.Deliver(os.Stdout, o.json, o.out), err)
}

// say tells a waiting person how far it is.
func say(format string, args ...any) {
	fmt.Fprintln(os.Stderr, "containerdbench:", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}
