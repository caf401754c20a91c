package matrix

import (
	"context"
	"fmt"
	"os/exec"

	"blockstore.dev/blockstore/perf/peers"
)

// workload is something that is done.
type workload struct {
	name, title string
	// fileSystems take part too, which keep no layers.
	fileSystems bool
	// only, if set, says why a peer can take no part, or "".
	only     func(peers.Peer) string
	programs []string
	counted  counting
	// rounds are recorded at most, 0 for as many as of others.
	rounds int
	// warmsUp: a round does that itself, or what it measures does not get warmer.
	warmsUp bool
	// prepare makes what all rounds of a stand need.
	prepare func(ctx context.Context, s *stand) error
	round   func(ctx context.Context, s *stand) error
}

// counting says at what scale the system calls of a workload's operations are counted.
type counting int

const (
	// notAtAll: how many there are is a question of the time that it may take.
	notAtAll counting = iota
	// once: as little as shows what one operation calls.
	once
	// inFull: a row says how many of something were made. Those of command lines are left out: to see a command for each
	// would take longer under strace than all times together.
	inFull
)

// lacking says why a workload cannot run here, or nil.
func (w workload) lacking() error {
	for _, name := range w.programs {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("the program %s is not installed (scripts/deps installs what benchmarks need): %w", name, err)
		}
	}
	return nil
}

// excludes says why a peer takes no part in a workload, or "".
func (w workload) excludes(p peers.Peer) string {
	if p.FileSystem && !w.fileSystems {
		return "a file system keeps no layers"
	}
	if w.only != nil {
		return w.only(p)
	}
	return ""
}

// workloads are in the order in which they run.
func workloads() []workload {
	return []workload{
		firstWrite(), database(), smallFiles(), unpack(), lifeCycle(), burst(), diff(), commit(), deletion(), space(), metadata(),
		fanOut(), restart(), steady(),
	}
}

// inside leaves out of what is done inside a container who lays out its files as another
// does.
func inside(p peers.Peer) string {
	if p.Name == "vfs" {
		return "its containers are copies, and so files like " + peers.PlainExt4 + "'s"
	}
	return oneOfAKind(p)
}
