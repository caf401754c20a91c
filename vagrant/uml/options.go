package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// maxDisks is how many disks --disk may ask for. The ubd driver has sixteen;
// the last one is the scratch disk.
const maxDisks = 15

// options is what the command line asked for.
type options struct {
	memory  int64 // bytes
	scratch int64 // bytes
	disks   []int64
	shares  []string // absolute host directories
	env     []string // VAR=VALUE
	timeout time.Duration
	keep    bool
	console bool
	command []string
	dir     string // the command's working directory
}

// parseOptions reads the command line. Errors are for the user and end in
// exit status 2; flag.ErrHelp means that the usage was asked for and printed.
func parseOptions(args []string, stderr io.Writer) (options, error) {
	o := options{memory: 2 << 30, scratch: 16 << 30, timeout: 10 * time.Minute}
	flags := flag.NewFlagSet("uml", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: vagrant/uml/run [flags] -- COMMAND [ARG]...")
		flags.PrintDefaults()
	}
	flags.Func("mem", "memory of the machine (default 2G)", sizeInto(&o.memory))
	flags.Func("scratch", "size of the ext4 disk behind $BSTEST_DIR, sparse (default 16G)", sizeInto(&o.scratch))
	flags.Func("disk", "add a blank disk of this size: /dev/ubda, /dev/ubdb, ...", func(s string) error {
		size, err := parseSize(s)
		o.disks = append(o.disks, size)
		return err
	})
	share := func(s string) error {
		dir, err := shareDir(s)
		o.shares = append(o.shares, dir)
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
		o.env = append(o.env, resolveVar(s)...)
		return nil
	})
	flags.DurationVar(&o.timeout, "timeout", o.timeout, "time limit, boot included")
	flags.BoolVar(&o.keep, "keep", false, "keep the temporary directory (disks, console) and say where it is")
	flags.BoolVar(&o.console, "console", false, "copy the machine's console to stderr")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.command = flags.Args()
	switch {
	case len(o.command) == 0:
		return o, errors.New("no command given: vagrant/uml/run [flags] -- COMMAND [ARG]")
	case len(o.disks) > maxDisks:
		return o, fmt.Errorf("%d disks asked for, at most %d are possible", len(o.disks), maxDisks)
	case o.timeout <= 0:
		return o, fmt.Errorf("--timeout %s is not above zero", o.timeout)
	}
	dir, err := os.Getwd()
	o.dir = dir
	return o, err
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
		return "", fmt.Errorf("%s cannot be shared: hostfs takes no comma in a path, and / would expose the host", dir)
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
