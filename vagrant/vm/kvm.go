package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/vagrant/machine"
)

// probing stands in the place of a work directory when a machine is booted
// only to see whether it boots; it then says probed on its console.
const (
	probing = "probing"
	probed  = "bstest: user space was reached"
)

// probeLimit is how long a machine with KVM may take to boot. A second is
// usual.
const probeLimit = 20 * time.Second

// useKVM decides between KVM and emulation.
func (o *ownOptions) useKVM(ctx context.Context, qemu string, img image, initrd string) (bool, error) {
	switch o.accel {
	case "kvm":
		return true, nil
	case "tcg":
		return false, nil
	}
	if unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) != nil {
		return false, nil
	}
	return remembered(func() bool { return kvmBoots(ctx, qemu, img, initrd) })
}

// remembered asks once per boot of the host and keeps the answer in the cache.
func remembered(ask func() bool) (bool, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return false, err
	}
	cache, err := machine.CacheDir()
	if err != nil {
		return false, err
	}
	file := filepath.Join(cache, "vm-kvm")
	head := strings.TrimSpace(string(boot)) + " "
	if text, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(text), head) {
		return strings.TrimPrefix(string(text), head) == "true", nil
	}
	answer := ask()
	// Machines that start side by side all ask, and their answers are one.
	next := fmt.Sprintf("%s.%d", file, os.Getpid())
	if err := os.WriteFile(next, fmt.Appendf(nil, "%s%t", head, answer), 0o600); err != nil {
		return answer, err
	}
	return answer, os.Rename(next, file)
}

// kvmBoots tries it: a /dev/kvm that can be opened need not run this kernel.
func kvmBoots(ctx context.Context, qemu string, img image, initrd string) bool {
	runtime.LockOSThread() // the parent-death signal is tied to the thread
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	var console bytes.Buffer
	cmd := exec.CommandContext(ctx, qemu, slices.Concat(machineArgs(true, 512<<20), kernelArgs(img, initrd, probing))...)
	cmd.Stdout = &console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	return err == nil && bytes.Contains(console.Bytes(), []byte(probed))
}
