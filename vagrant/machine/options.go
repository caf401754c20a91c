package machine

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Options is what the command line asked for.
type Options struct {
	Memory  int64 // bytes
	Scratch int64 // bytes
	Disks   []Disk
	Shares  []string // absolute host directories
	Env     []string // VAR=VALUE
	Timeout time.Duration
	Still   time.Duration // how long the command may write nothing; 0 for ever
	Slack   time.Duration // by which the command's sleeps may be late; 0 for what the kernel gives
	Keep    bool
	Console bool
	Command []string
	Dir     string // the command's working directory
}

// Disk is a blank disk of a size, or a file of the caller's that is the disk
// and outlives the machine.
type Disk struct {
	Size   int64
	File   string
	Device bool // File is a block device
}

// parseOptions reads the command line. Errors are for the user and end in
// exit status 2; flag.ErrHelp means that the usage was asked for and printed.
func parseOptions(k Kind, args []string, stderr io.Writer) (Options, error) {
	o := Options{Memory: 2 << 30, Scratch: 16 << 30, Timeout: 10 * time.Minute}
	flags := flag.NewFlagSet(k.Name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: vagrant/%s/run [flags] -- COMMAND [ARG]...\n", k.Name)
		flags.PrintDefaults()
	}
	flags.Func("mem", "memory of the machine (default 2G)", sizeInto(&o.Memory))
	flags.Func("scratch", "size of the ext4 disk behind $BSTEST_DIR, sparse (default 16G)", sizeInto(&o.Scratch))
	flags.Func("disk", "add a disk ("+k.Disks+"): a blank one of this `SIZE`, or the file or block device /PATH, which keeps what is written", func(s string) error {
		disk, err := parseDisk(s)
		o.Disks = append(o.Disks, disk)
		return err
	})
	share := func(s string) error {
		dir, err := shareDir(s)
		o.Shares = append(o.Shares, dir)
		return err
	}
	flags.Func("share", "host `DIR` that the command may write to", share)
	flags.Func("out", "the same as --share, and DIR is made if missing", func(s string) error {
		if err := os.MkdirAll(s, 0o755); err != nil {
			return err
		}
		return share(s)
	})
	flags.Func("e", "set `VAR=VALUE`, or pass the caller's VAR on", func(s string) error {
		o.Env = append(o.Env, resolveVar(s)...)
		return nil
	})
	flags.DurationVar(&o.Timeout, "timeout", o.Timeout, "time limit, boot included")
	flags.DurationVar(&o.Still, "still", 0, "time limit for a command that writes nothing (default none)")
	flags.DurationVar(&o.Slack, "timer-slack", 0, "by how much the command's sleeps may be late (default the kernel's, 50us); with 1ms Go's programs take less of the processor in User Mode Linux")
	flags.BoolVar(&o.Keep, "keep", false, "keep the temporary directory (disks, console) and say where it is")
	flags.BoolVar(&o.Console, "console", false, "copy the machine's console to stderr")
	if k.AddFlags != nil {
		k.AddFlags(flags)
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.Command = flags.Args()
	switch {
	case len(o.Command) == 0:
		return o, fmt.Errorf("no command given: vagrant/%s/run [flags] -- COMMAND [ARG]", k.Name)
	case len(o.Disks) > k.MaxDisks:
		return o, fmt.Errorf("%d disks asked for, at most %d are possible", len(o.Disks), k.MaxDisks)
	case o.Timeout <= 0:
		return o, fmt.Errorf("--timeout %s is not above zero", o.Timeout)
	case o.Slack < 0:
		return o, fmt.Errorf("--timer-slack %s is below zero", o.Slack)
	}
	dir, err := os.Getwd()
	o.Dir = dir
	return o, err
}

// parseDisk reads a disk's size, or the absolute path of its file or block device.
func parseDisk(s string) (Disk, error) {
	if !filepath.IsAbs(s) {
		size, err := parseSize(s)
		return Disk{Size: size}, err
	}
	st, err := os.Stat(s)
	if err != nil {
		return Disk{}, err
	}
	device := st.Mode().Type() == os.ModeDevice
	if !device && (!st.Mode().IsRegular() || st.Size() == 0) || strings.ContainsRune(s, ',') {
		return Disk{}, fmt.Errorf("%s is no file that can be a disk: it has to have a size, and no comma in its path", s)
	}
	return Disk{File: s, Device: device}, nil
}

func sizeInto(p *int64) func(string) error {
	return func(s string) error {
		size, err := parseSize(s)
		*p = size
		return err
	}
}

// parseSize reads a size in bytes with an optional suffix K, M, G or T, which
// are powers of 1024 as in truncate(1) and in the kernel's mem=.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGT")
	shift, known := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[s[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !known || err != nil || n <= 0 || n > 1<<62>>shift {
		return 0, fmt.Errorf("size %q is not a number with an optional K, M, G or T behind it", s)
	}
	return n << shift, nil
}

func shareDir(s string) (string, error) {
	dir, err := filepath.Abs(s)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return "", fmt.Errorf("%s is not a directory", dir)
	}
	if strings.ContainsRune(dir, ',') || dir == "/" {
		return "", fmt.Errorf("%s cannot be shared: no kind of machine takes a comma in its path, and / would expose the host", dir)
	}
	return dir, nil
}

func resolveVar(s string) []string {
	if strings.Contains(s, "=") {
		return []string{s}
	}
	if v, ok := os.LookupEnv(s); ok {
		return []string{s + "=" + v}
	}
	return nil
}
