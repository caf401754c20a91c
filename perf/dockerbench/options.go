package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"blockstore.dev/blockstore/perf"
)

// options is what the command line asked for.
type options struct {
	drivers    []string
	rounds     int
	vfsRounds  int // vfs copies everything: a few of its rounds say enough
	containers int // made and removed in a round
	vfsCrowd   int // the same of vfs
	runs       int
	overwrites int
	fileSize   int64 // of the large file in a lower layer
	diskSize   int64 // of each peer's sparse file
	archive    string
	ref        string // the image in the archive
	blockstore string // binary
	docker     string // client
	dockerd    string
	dir        string // where everything lies
	noCounts   bool
	json       bool
	out        string
}

// debianClient is the client that Debian's package brings, beside its daemon.
const debianClient = "/usr/bin/docker"

// parseOptions reads the command line.
func parseOptions(args []string, stderr io.Writer) (options, error) {
	o := options{fileSize: 1 << 30, diskSize: 40 << 30}
	f := flag.NewFlagSet("dockerbench", flag.ContinueOnError)
	f.SetOutput(stderr)
	drivers := f.String("drivers", "overlay2,btrfs,vfs,blockstore/btrfs", "storage drivers to compare, of: "+strings.Join(driverNames(), ", "))
	f.IntVar(&o.rounds, "rounds", 3, "rounds of every driver but vfs")
	f.IntVar(&o.vfsRounds, "vfs-rounds", 1, "rounds of vfs")
	f.IntVar(&o.containers, "containers", 20, "containers made and removed in a round")
	f.IntVar(&o.vfsCrowd, "vfs-containers", 3, "the same of vfs")
	f.IntVar(&o.runs, "runs", 3, "docker run in a round")
	f.IntVar(&o.overwrites, "overwrites", 300, "random overwrites in a round, of each kind")
	f.Func("file-size", "size of the large file in a lower layer (default 1G)", perf.SizeInto(&o.fileSize))
	f.Func("disk-size", "size of each driver's sparse file (default 40G)", perf.SizeInto(&o.diskSize))
	f.StringVar(&o.archive, "image", "", "docker archive of the real image; vagrant/realimage/make makes it")
	f.StringVar(&o.ref, "ref", "real/postgres:latest", "the image in the archive")
	f.StringVar(&o.blockstore, "blockstore", os.Getenv("BLOCKSTORE_BIN"), "blockstore's binary (default: $BLOCKSTORE_BIN)")
	f.StringVar(&o.docker, "docker", "", "docker's client (default: Debian's, else the one in $PATH)")
	f.StringVar(&o.dockerd, "dockerd", "dockerd", "docker's daemon")
	f.StringVar(&o.dir, "dir", "", "directory on a disk's file system to work in (default: $BSTEST_DIR, $TMPDIR, /var/tmp)")
	f.BoolVar(&o.noCounts, "no-counts", false, "leave out the counts of system calls, which need strace")
	f.BoolVar(&o.json, "json", false, "print JSON with every sample instead of the table")
	f.StringVar(&o.out, "out", "", "write the JSON into this `FILE` too")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.drivers = strings.Split(*drivers, ",")
	o.chooseDefaults()
	return o, o.check(f.NArg())
}

func (o *options) chooseDefaults() {
	if o.dir == "" {
		o.dir = perf.WorkDir()
	}
	if o.docker == "" {
		o.docker = debianClient
		if _, err := os.Stat(o.docker); err != nil {
			o.docker = "docker"
		}
	}
	if o.blockstore == "" {
		o.blockstore = filepath.Join("bin", "blockstore")
	}
}

func (o *options) check(rest int) error {
	known := driverNames()
	for i, name := range o.drivers {
		switch {
		case !slices.Contains(known, name):
			return fmt.Errorf("--drivers: %q is none of %s", name, strings.Join(known, ", "))
		case slices.Contains(o.drivers[:i], name):
			return fmt.Errorf("--drivers: %s stands there twice", name)
		}
	}
	for _, n := range []int{o.rounds, o.vfsRounds, o.containers, o.vfsCrowd, o.runs, o.overwrites} {
		if n < 1 {
			return errors.New("every count must be 1 at least")
		}
	}
	switch {
	case rest > 0:
		return errors.New("dockerbench takes flags only")
	case o.archive == "":
		return errors.New("--image is missing: $(vagrant/realimage/make)/postgres.docker.tar")
	case o.fileSize < 1<<20:
		return errors.New("--file-size is below 1M")
	}
	if o.needsBlockstore() {
		// It is started from other directories too.
		path, err := exec.LookPath(o.blockstore)
		if err == nil {
			o.blockstore, err = filepath.Abs(path)
		}
		if err != nil {
			return fmt.Errorf("--blockstore: %w (make build)", err)
		}
	}
	return nil
}

func (o *options) needsBlockstore() bool {
	return slices.ContainsFunc(o.drivers, func(name string) bool { return strings.HasPrefix(name, ours) })
}
