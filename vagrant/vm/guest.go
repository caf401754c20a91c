package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/vagrant/machine"
)

// workDir is where the machine sees its work directory, and hostDir where it
// sees the host's root.
const (
	workDir = "/run/bstest-work"
	hostDir = "/run/bstest-host"
)

// newRoot is where the initial file system mounts the root.
const newRoot = "/root"

// diskLimit bounds the wait for a disk to appear.
const diskLimit = 30 * time.Second

// Ways to mount 9p. What the machine writes is read at once by others, and
// what it runs is mapped into memory; the host's files it only reads.
const (
	p9          = "trans=virtio,version=9p2000.L,msize=512000,"
	p9Direct    = p9 + "cache=none"
	p9Shared    = p9 + "cache=mmap"
	p9Read      = p9 + "cache=loose"
	scratchHost = machine.ScratchDir + "/.host" // what was written to the host's directories
)

// guest is process 1 of the machine, started from the initial file system.
func guest(work string) {
	switch work {
	case probing:
		fmt.Println(probed)
		machine.Halt()
	case boxed:
		fmt.Println("init:", bootBox())
		machine.Halt()
	}
	if err := enterRoot(); err != nil {
		fmt.Println("init:", err) // there is no work directory to put a status into
		machine.Halt()
	}
	status, err := inRoot()
	machine.PowerOff(work, status, err)
}

// enterRoot loads what the root needs and goes there, with the machine's own
// file systems mounted in it.
func enterRoot() error {
	if err := prepareKernel(); err != nil {
		return err
	}
	root, err := findDisk(rootSerial)
	if err != nil {
		return err
	}
	if err := mountRoot(root); err != nil {
		return err
	}
	for _, m := range []struct{ dir, fs, data string }{
		{"/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666"},
		{"/dev/shm", "tmpfs", "mode=1777"},
		{"/run", "tmpfs", "mode=755"},
		{"/run/lock", "tmpfs", "mode=1777"},
		{"/tmp", "tmpfs", "mode=1777"},
		{"/sys/fs/cgroup", "cgroup2", ""},
	} {
		if err := machine.MountAt(newRoot+m.dir, m.fs, m.data); err != nil {
			return err
		}
	}
	if err := mount9p(newRoot+workDir, workTag, p9Direct, 0); err != nil {
		return err
	}
	// For the service that runs the command under systemd.
	if err := copyFile("/init", newRoot+servicePath); err != nil {
		return err
	}
	return machine.MoveRoot(newRoot)
}

// prepareKernel mounts the kernel's file systems in the initial one and loads
// what reaches the root.
func prepareKernel() error {
	for _, m := range []struct{ dir, fs, data string }{
		{"/proc", "proc", ""}, {"/sys", "sysfs", ""}, {"/dev", "devtmpfs", "mode=755"},
	} {
		if err := machine.MountAt(m.dir, m.fs, m.data); err != nil {
			return err
		}
	}
	return loadModules("/modules")
}

// mountRoot mounts the root, and moves the kernel's file systems into it.
func mountRoot(device string) error {
	if err := unix.Mount(device, newRoot, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mounting the root: %w", err)
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if err := unix.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s: %w", dir, err)
		}
	}
	return nil
}

// boxed stands in the place of a work directory in Vagrant's box (../box), a
// machine like any other, whose disk keeps what is written.
const boxed = "box"

// bootBox becomes systemd. It returns only an error.
func bootBox() error {
	const disk = "/dev/vda"
	if err := prepareKernel(); err != nil {
		return err
	}
	for deadline := time.Now().Add(diskLimit); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(disk); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no %s", disk)
		}
	}
	if err := mountRoot(disk); err != nil {
		return err
	}
	if err := machine.MoveRoot(newRoot); err != nil {
		return err
	}
	return unix.Exec("/sbin/init", []string{"/sbin/init"}, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux"})
}

func mount9p(dir, tag, data string, flags uintptr) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(tag, dir, "9p", flags, data); err != nil {
		return fmt.Errorf("mounting the host's %s on %s: %w", tag, dir, err)
	}
	return nil
}

// loadModules loads the modules of a directory in the order of its file order.
func loadModules(dir string) error {
	order, err := os.Open(filepath.Join(dir, "order"))
	if err != nil {
		return err
	}
	defer order.Close()
	names := bufio.NewScanner(order)
	for names.Scan() {
		if err := loadModule(filepath.Join(dir, names.Text())); err != nil {
			return fmt.Errorf("loading module %s: %w", names.Text(), err)
		}
	}
	return names.Err()
}

func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// staticNodes makes the nodes of devices whose module is loaded when a node is
// first opened, as systemd-tmpfiles does: /dev/zfs, /dev/mapper/control,
// /dev/loop-control. depmod(8) lists them as "zfs zfs c10:249".
func staticNodes() error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	list, err := os.ReadFile("/lib/modules/" + unix.ByteSliceToString(uts.Release[:]) + "/modules.devname")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		var module, name string
		var kind byte
		var major, minor uint32
		if _, err := fmt.Sscanf(line, "%s %s %c%d:%d", &module, &name, &kind, &major, &minor); err != nil || kind != 'c' {
			continue // a comment, or a block device
		}
		node := filepath.Join("/dev", name)
		if err := os.MkdirAll(filepath.Dir(node), 0o755); err != nil {
			return err
		}
		err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor)))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("making %s: %w", node, err)
		}
	}
	return nil
}

// findDisk returns the device of the disk with a serial number. Disks appear
// some time after their driver has been loaded.
func findDisk(serial string) (string, error) {
	for deadline := time.Now().Add(diskLimit); ; time.Sleep(10 * time.Millisecond) {
		files, err := filepath.Glob("/sys/block/*/serial")
		if err != nil {
			return "", err
		}
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(text)) == serial {
				return "/dev/" + filepath.Base(filepath.Dir(f)), nil
			}
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no disk with the serial number %s", serial)
		}
	}
}

// inRoot makes the command's world and has it run.
func inRoot() (int, error) {
	var own ownConfig
	config, err := machine.ReadConfig(workDir, &own)
	if err != nil {
		return machine.ExitMachine, err
	}
	if err := os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
		return machine.ExitMachine, err
	}
	if err := furnish(config, own); err != nil {
		return machine.ExitMachine, err
	}
	switch {
	case own.Systemd:
		return machine.ExitMachine, startSystemd()
	case own.Udev:
		if err := startUdev(); err != nil {
			return machine.ExitMachine, err
		}
	}
	return runCommand(config)
}

// runCommand runs the command and hands the shares' last bytes to the host.
func runCommand(config machine.Config) (int, error) {
	status, err := machine.RunCommand(workDir, config)
	for _, dir := range config.Shares {
		err = errors.Join(err, syncShare(dir))
	}
	return status, err
}

func syncShare(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("writing what is left to %s: %w", dir, err)
	}
	return nil
}

// furnish makes device nodes and mounts the scratch disk, the host's directories and the shares.
func furnish(config machine.Config, own ownConfig) error {
	if err := staticNodes(); err != nil {
		return err
	}
	scratch, err := findDisk(scratchSerial)
	if err != nil {
		return err
	}
	if err := machine.MountScratch("", scratch); err != nil {
		return err
	}
	if err := machine.Settle(); err != nil {
		return err
	}
	if err := mount9p(hostDir, hostTag, p9Read, unix.MS_RDONLY); err != nil {
		return err
	}
	for i, dir := range own.Host {
		if err := showDir(dir, filepath.Join(scratchHost, strconv.Itoa(i))); err != nil {
			return err
		}
	}
	for i, dir := range config.Shares {
		if err := mount9p(dir, shareTag+strconv.Itoa(i), p9Shared, 0); err != nil {
			return err
		}
	}
	return nil
}

// showDir lays an overlay at a host directory's own path: what is written there
// goes to the scratch disk, below kept.
func showDir(dir, kept string) error {
	upper, work := filepath.Join(kept, "upper"), filepath.Join(kept, "work")
	for _, d := range []string{upper, work, dir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// What the overlay's root is to others, its upper directory says.
	st, err := os.Stat(hostDir + dir)
	if err != nil {
		return err
	}
	if err := os.Chmod(upper, st.Mode()); err != nil {
		return err
	}
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	data := "lowerdir=" + escape.Replace(hostDir+dir) + ",upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount("overlay", dir, "overlay", 0, data); err != nil {
		return fmt.Errorf("showing the host's %s: %w", dir, err)
	}
	return nil
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, slices.Clip(text), 0o755)
}
