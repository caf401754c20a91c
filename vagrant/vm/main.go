package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"blockstore.dev/blockstore/vagrant/machine"
)

func main() {
	if work := os.Getenv(serviceVar); work != "" {
		service(work)
	}
	if len(os.Args) > 1 && os.Getpid() != 1 {
		if verb := verbs()[os.Args[1]]; verb != nil {
			if err := verb(context.Background(), os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, "vm:", err)
				os.Exit(machine.ExitMachine)
			}
			return
		}
	}
	o := &ownOptions{accel: "auto"}
	machine.Main(machine.Kind{
		Name: "vm", MaxDisks: maxDisks, Disks: "/dev/vda, /dev/vdb, ...",
		AddFlags: o.addFlags, Boot: o.boot, Guest: guest,
	})
}

// verbs are what others than the tests want of the image.
func verbs() map[string]func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{"initrd": initrdVerb, "driver": driverVerb}
}

// initrdVerb writes the initial file system to a file.
func initrdVerb(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: vagrant/vm/run initrd FILE")
	}
	img, err := makeImage(ctx)
	if err != nil {
		return err
	}
	return writeInitrd(args[0], img.initrd)
}

// driverVerb prints which of libvirt's drivers boots the image here.
func driverVerb(ctx context.Context, _ []string) error {
	img, err := makeImage(ctx)
	if err != nil {
		return err
	}
	qemu, err := exec.LookPath(emulator)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "bstest-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	initrd := work + "/initrd"
	if err := writeInitrd(initrd, img.initrd); err != nil {
		return err
	}
	kvm, err := (&ownOptions{accel: "auto"}).useKVM(ctx, qemu, img, initrd)
	if err != nil {
		return err
	}
	fmt.Println(map[bool]string{true: "kvm", false: "qemu"}[kvm])
	return nil
}
