package machine

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
	ExitUsage    = 2
	ExitTimeout  = 124
	ExitMachine  = 125
	ExitNotFound = 127
)

// GuestVar is the environment variable by which the kernel's command line
// tells the guest where its work directory is.
const GuestVar = "bstest_machine"

// supervisorVar marks the process that becomes the machine's supervisor, and
// holds the kind's name.
const supervisorVar = "bstest_supervisor"

// Kind is a kind of machine.
type Kind struct {
	Name     string // of the program: "uml"
	MaxDisks int    // how many --disk may ask for
	Disks    string // what they are called inside: "/dev/ubda, /dev/ubdb, ..."
	AddFlags func(*flag.FlagSet)

	// Boot says what starts the machine. The work directory has the disks' files
	// by then and no [Config], which Boot may add to. It may put more files there.
	Boot func(ctx context.Context, p Plan, c *Config) (Program, error)

	// Guest is process 1 of the machine: it makes the command's world, has the
	// command run ([RunCommand]) and ends with [PowerOff].
	Guest func(work string)
}

// Plan is a machine that was asked for.
type Plan struct {
	Options
	Work    string   // the work directory
	Disks   []string // files of the blank disks
	Scratch string   // file of the scratch disk, which has an ext4 file system
}

// Program is the process that is a machine.
type Program struct {
	Path string
	Args []string // without the program's name
	Env  []string // beside PATH, HOME and TMPDIR

	// OneProcessor keeps its processes on one of the host's processors, one that no other such machine has
	// while there is one: they wait for each other, and never run at the same time.
	OneProcessor bool
}

// Main is the whole program, whichever of the three it is: the one on the
// host, the supervisor, or the guest. It does not return.
func Main(k Kind) {
	if os.Getpid() == 1 {
		if work := os.Getenv(GuestVar); work != "" {
			k.Guest(work)
		}
		if name := os.Getenv(supervisorVar); name != "" {
			os.Exit(supervise(name, os.Args[0], os.Args[1:]))
		}
	}
	os.Exit(k.host(os.Args[1:]))
}

// host boots a machine as the command line asks and returns the exit status.
func (k Kind) host(args []string) int {
	o, err := parseOptions(k, args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", k.Name, err)
		return ExitUsage
	}
	ctx, stop := withSignals(context.Background())
	defer stop()
	status, err := Run(ctx, k, o)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", k.Name, err)
	}
	return status
}

// interrupted is the cancellation cause when a signal ended the run.
type interrupted struct{ signal syscall.Signal }

func (e interrupted) Error() string { return "stopped by signal: " + e.signal.String() }

// withSignals gives a context that the usual terminating signals cancel, and the one that comes when nobody reads the output any more.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
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
