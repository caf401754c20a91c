package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/snapshot/mount"
)

// reapLimit bounds the wait for the tests' last processes to end.
const reapLimit = 5 * time.Second

// traces are the kernel's objects that tests can leave behind.
type traces map[string]bool

// takeTraces lists loop devices with their files, mounts and device-mapper
// devices.
func takeTraces() (traces, error) {
	found := traces{}
	attached, err := loops()
	if err != nil {
		return nil, err
	}
	for _, l := range attached {
		found["loop device "+l.name+" on "+l.file] = true
	}
	names, err := filepath.Glob("/sys/block/dm-*/dm/name")
	if err != nil {
		return nil, err
	}
	for _, f := range names {
		if text, err := os.ReadFile(f); err == nil {
			found["device-mapper device "+strings.TrimSpace(string(text))] = true
		}
	}
	mounted, err := mount.Table()
	for _, m := range mounted {
		found["mount "+strings.Join([]string{m.Target, "of", m.Root, "of", m.Type, m.Source, m.SuperOptions}, " ")] = true
	}
	return found, err
}

// loop is an attached loop device.
type loop struct{ name, file string }

func loops() ([]loop, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	var found []loop
	for _, f := range files {
		// A device that is being detached at this moment has no file any more.
		if text, err := os.ReadFile(f); err == nil {
			found = append(found, loop{strings.Split(f, "/")[3], strings.TrimSpace(string(text))})
		}
	}
	return found, err
}

// lies says whether a mount is below a directory of the tests', or shows elsewhere what lies in it. Where a file system is mounted
// on the way there, what is shown begins behind that: the directory's own name is nobody else's.
func lies(m mount.Entry, dir string) bool {
	return strings.HasPrefix(m.Target, dir+"/") || strings.Contains(m.Root+"/", "/"+filepath.Base(dir)+"/")
}

// sweep removes a directory of the tests', if it was made, mounts in it and of it first: what is mounted
// there need not be ours to delete. Loop devices on files in it are detached.
func sweep(dir string) error {
	if dir == "" {
		return nil
	}
	mounted, err := mount.Table()
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounted) {
		if lies(m, dir) {
			if err := unix.Unmount(m.Target, unix.MNT_DETACH); err != nil {
				return fmt.Errorf("unmounting %s, so %s stays: %w", m.Target, dir, err)
			}
		}
	}
	return errors.Join(detachLoops(dir), os.RemoveAll(dir))
}

// detachLoops detaches the loop devices on files below dir.
func detachLoops(dir string) error {
	attached, err := loops()
	errs := []error{err}
	for _, l := range attached {
		if strings.HasPrefix(l.file, dir+"/") {
			errs = append(errs, detach(l))
		}
	}
	return errors.Join(errs...)
}

func detach(l loop) error {
	number, err := strconv.Atoi(strings.TrimPrefix(l.name, "loop"))
	if err != nil {
		return err
	}
	device, err := ioctl.OpenLoop(number)
	if errors.Is(err, ioctl.ErrLoopNotFound) { // detached meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	return device.Detach()
}

// leaks compares with what was there before. Only what names one of the tests'
// directories or of the marks counts: a machine has a life of its own.
func leaks(before traces, dirs []string, marks ...string) []error {
	after, err := takeTraces()
	errs := []error{err}
	for trace := range after {
		ours := slices.ContainsFunc(slices.Concat(marks, dirs), func(mark string) bool { return strings.Contains(trace, mark) })
		if !before[trace] && ours {
			errs = append(errs, fmt.Errorf("left behind: %s", trace))
		}
	}
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		errs = append(errs, err)
		for _, f := range files {
			errs = append(errs, fmt.Errorf("left behind: %s", filepath.Join(dir, f.Name())))
		}
	}
	return compact(append(errs, leftProcesses()...))
}

func compact(errs []error) []error {
	var kept []error
	for _, err := range errs {
		if err != nil {
			kept = append(kept, err)
		}
	}
	return kept
}

// adoptOrphans makes this process the parent of every process that a test
// leaves behind (PR_SET_CHILD_SUBREAPER, prctl(2)), so that they can be found
// without guessing by name.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// leftProcesses reaps what has ended and names what still runs. It is called
// when no command of our own is running.
func leftProcesses() []error {
	deadline := time.Now().Add(reapLimit)
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR), pid > 0:
			continue
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil:
			return []error{fmt.Errorf("waiting for left processes: %w", err)}
		}
		if time.Now().After(deadline) {
			return nameChildren()
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// endProcesses ends what runs still of tests that were stopped, and what becomes ours by that: a process that the kernel does not let
// go is not waited for without end.
func endProcesses() {
	for range 5 {
		if leftProcesses() == nil {
			return
		}
	}
}

// nameChildren names our children, and ends them.
func nameChildren() []error {
	var errs []error
	for _, c := range children() {
		errs = append(errs, fmt.Errorf("left behind: process %d: %s", c.pid, c.command))
		errs = append(errs, unix.Kill(c.pid, unix.SIGKILL))
	}
	return compact(errs)
}

// child is a process of ours with its command line, which is empty while the
// process is between two programs and after its end.
type child struct {
	pid     int
	command string
}

func children() []child {
	var found []child
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, word := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				continue
			}
			command, _ := os.ReadFile("/proc/" + word + "/cmdline")
			found = append(found, child{pid, strings.ReplaceAll(string(command), "\x00", " ")})
		}
	}
	return found
}
