package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"

	"blockstore.dev/blockstore/vagrant/machine"
)

// maxDisks is how many disks --disk may ask for. The ubd driver has sixteen;
// the last one is the scratch disk.
const maxDisks = 15

// ownConfig is what the guest is told beside what every machine's is.
type ownConfig struct {
	Scratch string // name of the scratch disk's device
	Kernel  string // directory with the kernel, in lib/modules its modules, and in zfs the programs that go with one of them
}

// boot says how the machine's kernel is started.
func boot(ctx context.Context, p machine.Plan, c *machine.Config) (machine.Program, error) {
	kernel, err := machine.Make(ctx, "uml")
	if err != nil {
		return machine.Program{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return machine.Program{}, err
	}
	args := []string{
		"root=/dev/root", "rootfstype=hostfs", "ro", "mem=" + strconv.FormatInt(p.Memory>>20, 10) + "M",
		"con=null", "con0=null,fd:1", "oops=panic", "panic=-1", "noreboot",
		"seccomp=auto", // programs run by seccomp(2) where the kernel (Linux 6.16) and the host can, else by ptrace(2)
		"uml_dir=" + p.Work, "umid=uml",
		"init=" + self, machine.GuestVar + "=" + p.Work,
	}
	for i, file := range p.Disks {
		args = append(args, diskName(i)+"="+file)
	}
	args = append(args, diskName(maxDisks)+"="+p.Scratch)
	c.Kind = ownConfig{Scratch: "/dev/" + diskName(maxDisks), Kernel: kernel}
	c.Env = append([]string{"DM_DISABLE_UDEV=1"}, c.Env...)
	// UML keeps its memory in a file in TMPDIR and wants a tmpfs there.
	env := []string{"TMPDIR=/dev/shm"}
	preload, err := preloadLibrary(ctx, p.Work)
	env = append(env, "LD_PRELOAD="+preload)
	// For each system call its kernel's process and the program's wake each other: between two processors that takes two to
	// three times as long as on one.
	return machine.Program{Path: filepath.Join(kernel, "linux.uml"), Args: args, Env: env, OneProcessor: true}, err
}

// diskName is the ubd driver's name of disk i.
func diskName(i int) string { return "ubd" + string(rune('a'+i)) }
