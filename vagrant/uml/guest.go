package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/vagrant/machine"
)

// guestModules are loaded at boot; a kernel that has one built in, or that
// lacks one, is not an error here: the test that needs it says so better.
func guestModules() []string {
	return []string{
		"loop", "dm-mod", "dm-thin-pool", "dm-flakey", "dm-log-writes", "dm-era", "dm-dust", "dm-snapshot",
		"ext4", "btrfs", "xfs", "zfs",
	}
}

// guest is process 1 of the machine. It never returns: it powers off. The work
// directory was mounted read-write before the root was switched and stays
// reachable at the same path.
func guest(work string) {
	status, err := guestRun(work)
	machine.PowerOff(work, status, err)
}

func guestRun(work string) (int, error) {
	var own ownConfig
	config, err := machine.ReadConfig(work, &own)
	if err != nil {
		return machine.ExitMachine, err
	}
	if err := os.Setenv("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
		return machine.ExitMachine, err
	}
	if err := switchRoot(work, own.Kernel, config); err != nil {
		return machine.ExitMachine, err
	}
	if err := loadModules(own.Kernel); err != nil {
		return machine.ExitMachine, err
	}
	if err := machine.MountScratch("", own.Scratch); err != nil {
		return machine.ExitMachine, err
	}
	if err := machine.Settle(); err != nil {
		return machine.ExitMachine, err
	}
	return machine.RunCommand(work, config)
}

// switchRoot puts an overlay over the read-only view of the host and makes it
// the root, with the machine's own /proc, /sys, /dev and /run in it.
func switchRoot(work, kernel string, config machine.Config) error {
	const base = "/mnt" // any directory that every host has
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "mode=755,size=75%"); err != nil {
		return fmt.Errorf("mounting the overlay's tmpfs: %w", err)
	}
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			return err
		}
	}
	if out, err := exec.Command("modprobe", "-d", kernel, "overlay").CombinedOutput(); err != nil {
		return fmt.Errorf("loading overlay (modprobe is in package kmod): %w: %s", err, out)
	}
	root := base + "/root"
	if err := unix.Mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+base+"/upper,workdir="+base+"/work"); err != nil {
		return fmt.Errorf("mounting the overlay: %w", err)
	}
	for _, m := range []struct{ dir, fs, data string }{
		{"/proc", "proc", ""},
		{"/sys", "sysfs", ""},
		{"/dev", "devtmpfs", "mode=755"},
		{"/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666"},
		{"/dev/shm", "tmpfs", "mode=1777"},
		{"/run", "tmpfs", "mode=755"},
		{"/sys/fs/cgroup", "cgroup2", ""},
		{"/mnt", "tmpfs", "mode=755"},
	} {
		if err := machine.MountAt(root+m.dir, m.fs, m.data); err != nil {
			return err
		}
	}
	for _, dir := range append([]string{work}, config.Shares...) {
		// Without an option hostfs shows the host's root.
		if err := machine.MountAt(root+dir, "hostfs", dir); err != nil {
			return err
		}
	}
	return machine.MoveRoot(root)
}

// loadModules loads the modules, and lets the kernel find others.
func loadModules(kernel string) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	// Where the kernel's own calls of modprobe look.
	version := unix.ByteSliceToString(uts.Release[:])
	if err := os.MkdirAll("/lib/modules", 0o755); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(kernel, "lib/modules", version), filepath.Join("/lib/modules", version)); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if out, err := exec.Command("modprobe", append([]string{"-a", "-q"}, guestModules()...)...).CombinedOutput(); err != nil {
		fmt.Printf("init: modprobe: %v: %s\n", err, out)
	}
	return linkPrograms(filepath.Join(kernel, "zfs"))
}

// linkPrograms puts the programs of a directory, which need not be there, before those of the host.
func linkPrograms(dir string) error {
	programs, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, p := range programs {
		if !p.Type().IsRegular() {
			continue
		}
		if err := os.Symlink(filepath.Join(dir, p.Name()), filepath.Join("/usr/local/sbin", p.Name())); err != nil {
			return err
		}
	}
	return nil
}
