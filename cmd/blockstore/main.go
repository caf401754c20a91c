package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// heapGoal is what the garbage collector works harder to stay below. Loading
// promises less than 200 MiB resident whatever the image's size, and the
// collector alone would let garbage double what is in use.
const heapGoal = 112 << 20

func main() {
	os.Exit(interruptible(newApp(os.Stdin, os.Stdout, os.Stderr)))
}

// interruptible runs the command line with a context that the first Ctrl-C (or
// SIGTERM, SIGHUP) cancels, so that what was begun is undone. The second one
// kills the process; the store then recovers when it is opened next.
func interruptible(a *app) int {
	debug.SetMemoryLimit(heapGoal)
	// A reader that goes away (`save - | head`) must end in an error that is
	// cleaned up after, not in the death of the process.
	signal.Ignore(unix.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)
	return a.run(ctx, os.Args[1:])
}
