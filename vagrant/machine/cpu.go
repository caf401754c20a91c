package machine

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// processor is one of the host's that a machine has to itself among the machines.
type processor struct {
	number int
	claim  int // a socket
}

// claimProcessor picks a processor that this process may run on and that nobody has claimed by this name; nil if there
// is none left. The claim is a socket's abstract name (unix(7)), which goes with the process and leaves no file.
func claimProcessor(name string) (*processor, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("asking for the processors: %w", err)
	}
	claim, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for n := range len(allowed) * 64 {
		if !allowed.IsSet(n) {
			continue
		}
		err := unix.Bind(claim, &unix.SockaddrUnix{Name: fmt.Sprintf("@%s-cpu%d", name, n)})
		if err == nil {
			return &processor{n, claim}, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, errors.Join(fmt.Errorf("claiming processor %d: %w", n, err), unix.Close(claim))
		}
	}
	return nil, unix.Close(claim)
}

// inherited has start run with the calling thread, which has to be locked to its goroutine, on the
// processor: what is started there stays there with all its children.
func (p *processor) inherited(start func() error) error {
	if p == nil {
		return start()
	}
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	one.Set(p.number)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("going to processor %d: %w", p.number, err)
	}
	return errors.Join(start(), unix.SchedSetaffinity(0, &before))
}

// release lets another machine have it.
func (p *processor) release() error {
	if p == nil {
		return nil
	}
	return unix.Close(p.claim)
}
