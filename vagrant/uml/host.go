package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"blockstore.dev/blockstore/vagrant/machine"
)

// modulesDir is where Debian's package user-mode-linux keeps its modules.
const modulesDir = "/usr/lib/uml/modules"

// maxDisks is how many disks --disk may ask for. The ubd driver has sixteen;
// the last one is the scratch disk.
const maxDisks = 15

// ownConfig is what the guest is told beside what every machine's is.
type ownConfig struct {
	Scratch string // name of the scratch disk's device
}

// boot says how the machine's kernel is started.
func boot(ctx context.Context, p machine.Plan, c *machine.Config) (machine.Program, error) {
	kernel, err := exec.LookPath("linux.uml")
	if err != nil {
		return machine.Program{}, errors.New("no linux.uml on the path: apt-get install user-mode-linux")
	}
	self, err := os.Executable()
	if err != nil {
		return machine.Program{}, err
	}
	if err := linkModules(p.Work); err != nil {
		return machine.Program{}, err
	}
	args := []string{
		"root=/dev/root", "rootfstype=hostfs", "ro", "mem=" + strconv.FormatInt(p.Memory>>20, 10) + "M",
		"con=null", "con0=null,fd:1", "oops=panic", "panic=-1", "noreboot",
		"uml_dir=" + p.Work, "umid=uml",
		"init=" + self, machine.GuestVar + "=" + p.Work,
	}
	for i, file := range p.Disks {
		args = append(args, diskName(i)+"="+file)
	}
	args = append(args, diskName(maxDisks)+"="+p.Scratch)
	c.Kind = ownConfig{Scratch: "/dev/" + diskName(maxDisks)}
	c.Env = append([]string{"DM_DISABLE_UDEV=1"}, c.Env...)
	// UML keeps its memory in a file in TMPDIR and wants a tmpfs there.
	env := []string{"TMPDIR=/dev/shm"}
	preload, err := preloadLibrary(ctx, p.Work)
	env = append(env, "LD_PRELOAD="+preload)
	// For each system call its kernel's process and the program's wake each other (ptrace(2)): between two processors
	// that takes two to three times as long as on one.
	return machine.Program{Path: kernel, Args: args, Env: env, OneProcessor: true}, err
}

// linkModules makes work a root for modprobe -d.
func linkModules(work string) error {
	versions, err := os.ReadDir(modulesDir)
	if err != nil {
		return fmt.Errorf("finding the machine's modules (package user-mode-linux): %w", err)
	}
	dir := filepath.Join(work, "lib", "modules")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, v := range versions {
		if err := os.Symlink(filepath.Join(modulesDir, v.Name()), filepath.Join(dir, v.Name())); err != nil {
			return err
		}
	}
	return nil
}

// diskName is the ubd driver's name of disk i.
func diskName(i int) string { return "ubd" + string(rune('a'+i)) }
