package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// How long a stopping server waits: for calls and verbs in flight to end, and
// then for verbs to be undone. systemd's own patience is 90 s.
const (
	stopWait = 20 * time.Second
	undoWait = 20 * time.Second
)

// errStuck: something was still in work when the waiting was over.
var errStuck = errors.New("stopped with calls in work; what they left half done is undone when the store is opened next")

// service runs the doors of one store together.
type service struct {
	log   *slog.Logger
	doors []opened
	// work is the life of what was begun for the command line; undo ends it.
	work               context.Context
	undo               context.CancelFunc
	stopWait, undoWait time.Duration
}

func newService(log *slog.Logger) *service {
	s := &service{log: log, stopWait: stopWait, undoWait: undoWait}
	s.work, s.undo = context.WithCancel(context.Background())
	return s
}

// run serves until ctx is done or a door fails, and then stops: nothing new is
// begun, and what is in flight has a bounded time to end.
func (s *service) run(ctx context.Context, root string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, len(s.doors))
	var names []string
	for _, d := range s.doors {
		s.log.Info("listening", "for", d.name, "socket", d.address())
		names = append(names, d.name)
		go func() { // run waits for it, or the process ends
			err := d.Serve(ctx, d.Listener)
			if err == nil && ctx.Err() == nil {
				err = errors.New("it ended by itself")
			}
			if err != nil {
				err = fmt.Errorf("serving %s: %w", d.name, err)
			}
			stop()
			ended <- err
		}()
	}
	serving := fmt.Sprintf("serving %s to %s", root, join(names))
	s.tell(daemon.SdNotifyReady + "\nSTATUS=" + serving)
	s.log.Info(serving, "pid", os.Getpid())
	<-ctx.Done()
	s.tell(daemon.SdNotifyStopping + "\nSTATUS=stopping: waiting for calls in work")
	s.log.Info("stopping: waiting for calls in work")
	return s.wait(ended)
}

// wait gathers the doors' ends.
func (s *service) wait(ended <-chan error) error {
	var errs []error
	patience := time.NewTimer(s.stopWait)
	defer patience.Stop()
	for left := len(s.doors); left > 0; {
		select {
		case err := <-ended:
			errs = append(errs, err)
			left--
		case <-patience.C:
			if s.work.Err() != nil {
				return errors.Join(append(errs, errStuck)...)
			}
			s.log.Warn("stopping: interrupting what is still in work")
			s.undo()
			patience.Reset(s.undoWait)
		}
	}
	s.log.Info("stopped")
	return errors.Join(errs...)
}

// close takes the sockets away.
func (s *service) close() error {
	s.undo()
	var errs []error
	for _, d := range s.doors {
		errs = append(errs, d.close())
	}
	return errors.Join(errs...)
}

// tell says how things are to systemd, if it is there (sd_notify(3)).
func (s *service) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("telling systemd", "state", state, "error", err)
	}
}

// systemdUnit is the service that this process is the main process of, "" if
// systemd has not started it. What a service's process starts inherits the
// environment, but not the pid (systemd.exec(5), SYSTEMD_EXEC_PID).
func systemdUnit() string {
	if os.Getenv("SYSTEMD_EXEC_PID") != strconv.Itoa(os.Getpid()) {
		return ""
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(groups), "\n") {
		if unit := path.Base(line); strings.HasSuffix(unit, ".service") {
			return unit
		}
	}
	return ""
}
