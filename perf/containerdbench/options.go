package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"blockstore.dev/blockstore/perf"
)

// options is what the command line asked for.
type options struct {
	snapshotters []string
	rounds       int
	warmUp       int   // rounds before those
	operations   int   // of each kind in a round
	concurrent   int   // prepares at once
	layers       []int // of the chains that are unpacked
	crowds       []int // snapshots present while others are prepared
	usageFiles   int   // of 1 MiB, below the snapshot whose usage is asked for
	diskSize     int64 // of each site's sparse file
	baseSize     int64 // what a volume of a block snapshotter holds
	noCounts     bool
	dir          string // where everything lies
	json         bool
	out          string
	image        string   // of an OCI layout, DIR:REF; or empty
	tars         []string // its layers
}

// maxCrowd bounds what a typing error can ask for.
const maxCrowd = 100_000

// parseOptions reads the command line.
func parseOptions(args []string, stderr io.Writer) (options, error) {
	o := options{diskSize: 20 << 30, baseSize: 1 << 30, layers: []int{1, 16, 64}, crowds: []int{1, 100, 1000}}
	f := flag.NewFlagSet("containerdbench", flag.ContinueOnError)
	f.SetOutput(stderr)
	names := f.String("snapshotters", strings.Join(defaultKinds(), ","), "snapshotters to compare, of: "+strings.Join(kindNames(), ", "))
	f.IntVar(&o.rounds, "rounds", 10, "rounds that are recorded")
	f.IntVar(&o.warmUp, "warm-up", 1, "smaller rounds before those")
	f.IntVar(&o.operations, "operations", 10, "operations of each kind in a round")
	f.IntVar(&o.concurrent, "concurrent", 100, "prepares at the same time")
	f.Func("layers", "numbers of layers to unpack (default 1,16,64)", numbersInto(&o.layers))
	f.Func("crowds", "numbers of snapshots that are present while others are prepared (default 1,100,1000)", numbersInto(&o.crowds))
	f.IntVar(&o.usageFiles, "usage-files", 100, "files of 1 MiB below the snapshot whose usage is asked for")
	f.Func("disk-size", "size of each sparse file (default 20G)", perf.SizeInto(&o.diskSize))
	f.Func("base-size", "what a volume of a block snapshotter holds (default 1G)", perf.SizeInto(&o.baseSize))
	f.StringVar(&o.image, "image", "", "an image in an OCI layout, `DIR:REF`, to unpack too; vagrant/realimage/make makes one")
	f.BoolVar(&o.noCounts, "no-counts", false, "do not count system calls, which needs strace")
	f.StringVar(&o.dir, "dir", perf.WorkDir(), "directory on a disk's file system to work in (default: $BSTEST_DIR, $TMPDIR, /var/tmp)")
	f.BoolVar(&o.json, "json", false, "print JSON with every sample instead of the table")
	f.StringVar(&o.out, "out", "", "write the JSON into this `FILE` too")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.snapshotters = strings.Split(*names, ",")
	return o, o.check(f.NArg())
}

func (o *options) check(rest int) error {
	known := kindNames()
	for i, name := range o.snapshotters {
		switch {
		case !slices.Contains(known, name):
			return fmt.Errorf("--snapshotters: %q is none of %s%s", name, strings.Join(known, ", "), missingKind(name))
		case slices.Contains(o.snapshotters[:i], name):
			return fmt.Errorf("--snapshotters: %s stands there twice", name)
		}
	}
	for _, n := range slices.Concat([]int{o.rounds, o.operations, o.concurrent, o.usageFiles}, o.layers, o.crowds) {
		if n < 1 || n > maxCrowd {
			return fmt.Errorf("every count must be 1 at least, and %d at most", maxCrowd)
		}
	}
	switch {
	case rest > 0:
		return errors.New("containerdbench takes flags only")
	case o.warmUp < 0:
		return errors.New("--warm-up is below 0")
	case o.baseSize < int64(o.usageFiles)*2*fileSize:
		return fmt.Errorf("--base-size is below the double of --usage-files MiB: %d of them do not fit", o.usageFiles)
	case o.diskSize < o.baseSize:
		return errors.New("--disk-size is below --base-size")
	}
	return nil
}

// missingKind says why a snapshotter that could be there is not.
func missingKind(name string) string {
	if name == "btrfs" {
		return ": containerd's btrfs snapshotter needs cgo; build with CGO_ENABLED=1, -tags libbtrfs and Debian's libbtrfs-dev"
	}
	return ""
}

// warm is a round that wakes everything up and takes little time.
func (o options) warm() options {
	o.operations, o.concurrent, o.layers, o.tars = min(o.operations, 2), min(o.concurrent, 4), o.layers[:1], nil
	return o
}

// flags is what a child is told to do the same on one snapshotter.
func (o options) flags(name, dir string) []string {
	return []string{
		"--snapshotters", name, "--dir", dir, "--usage-files", strconv.Itoa(o.usageFiles),
		"--disk-size", strconv.FormatInt(o.diskSize, 10), "--base-size", strconv.FormatInt(o.baseSize, 10),
	}
}

// numbersInto reads numbers with commas between them.
func numbersInto(p *[]int) func(string) error {
	return func(s string) error {
		*p = nil
		for word := range strings.SplitSeq(s, ",") {
			n, err := strconv.Atoi(word)
			if err != nil {
				return err
			}
			*p = append(*p, n)
		}
		return nil
	}
}
