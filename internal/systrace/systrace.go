package systrace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Tally counts system calls: ioctls by the name of their request (as strace knows
// it), new processes as "process", the rest by name.
type Tally map[string]int

// traced are the calls that cost or wait, and the one that marks begin and end.
const traced = "ioctl,fsync,fdatasync,sync,syncfs,sync_file_range,msync,execve,clone,clone3,fork,vfork,mount,umount2," +
	"mount_setattr,move_mount,fsmount,open_tree,access,faccessat,faccessat2"

// marker begins the path whose look-up marks where a part begins.
const marker = "/bstest-mark-"

// end is the mark's name that ends a part.
const end = "end"

// Arguments are strace's, before the program: it and what it starts are traced
// into the file. With a filter in the kernel they stop at no other call than those.
func Arguments(file string) []string {
	return []string{"-f", "--seccomp-bpf", "-qq", "-s", "200", "-e", "trace=" + traced, "-o", file}
}

// AttachArguments are strace's that has it trace running processes, with all their threads and what they start, into the
// file until it is interrupted. It says on its standard error when it has one of them.
func AttachArguments(file string, pids ...int) []string {
	args := []string{"-f", "-s", "200", "-e", "trace=" + traced, "-o", file}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	return args
}

// Mark begins the part of that name, of the letters a to z.
func Mark(name string) { _ = unix.Access(marker+name, unix.F_OK) }

// End ends a part.
func End() { Mark(end) }

var (
	callInTrace    = regexp.MustCompile(`^\d+ +([a-z0-9_]+)\((.*)`)
	requestInTrace = regexp.MustCompile(`^[^,]+, ([A-Za-z0-9_]+)`)
	markInTrace    = regexp.MustCompile(`"` + marker + `([a-z]+)"`)
)

// Read counts the calls of each part, in the output of strace -f. Of two parts with
// one name the later counts.
func Read(r io.Reader) (map[string]Tally, error) { return read(r, nil) }

// ReadWhole counts the calls of a trace without marks.
func ReadWhole(r io.Reader) (Tally, error) {
	all := Tally{}
	_, err := read(r, all)
	return all, err
}

// read counts into now what stands before the first mark.
func read(r io.Reader, now Tally) (map[string]Tally, error) {
	tallies := map[string]Tally{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		m := callInTrace.FindStringSubmatch(lines.Text())
		if m == nil { // the second half of a call, a signal, an exit
			continue
		}
		name, args := m[1], m[2]
		if at := markInTrace.FindStringSubmatch(args); at != nil {
			if now = nil; at[1] != end {
				now = Tally{}
				tallies[at[1]] = now
			}
			continue
		}
		if now == nil {
			continue
		}
		if err := now.count(name, args); err != nil {
			return nil, fmt.Errorf("trace line %q: %w", lines.Text(), err)
		}
	}
	return tallies, lines.Err()
}

// count counts one call.
func (t Tally) count(name, args string) error {
	switch {
	case strings.Contains(name, "access"):
	case name == "ioctl":
		request := requestInTrace.FindStringSubmatch(args)
		if request == nil {
			return errors.New("an ioctl without a request")
		}
		t[request[1]]++
	case strings.HasPrefix(name, "clone") || strings.HasSuffix(name, "fork"):
		if !strings.Contains(args, "CLONE_THREAD") {
			t["process"]++
		}
	default:
		t[name]++
	}
	return nil
}

// Sum is how often the named calls were called.
func (t Tally) Sum(names ...string) int {
	n := 0
	for _, name := range names {
		n += t[name]
	}
	return n
}

// Syncs is how often it waited for a disk by a call that is for that.
func (t Tally) Syncs() int { return t.Sum("fsync", "fdatasync", "sync", "syncfs", "BTRFS_IOC_SYNC") }

// Ioctls is how often a request was made of a device or file system. What a C
// library asks of a terminal is none.
func (t Tally) Ioctls() int {
	n := 0
	for name, times := range t {
		request := name == strings.ToUpper(name) || strings.HasPrefix(name, "0x")
		if request && name != "TCGETS" {
			n += times
		}
	}
	return n
}
