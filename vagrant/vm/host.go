package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"blockstore.dev/blockstore/vagrant/machine"
)

// emulator is QEMU's program.
const emulator = "qemu-system-x86_64"

// maxDisks is how many disks --disk may ask for. Each takes a slot of the
// machine's one PCI bus, and so do the other devices and the shares.
const maxDisks = 12

// Serial numbers by which the guest knows its own disks.
const (
	rootSerial    = "bstest-root"
	scratchSerial = "bstest-scratch"
)

// Tags of the 9p file systems; a share's number follows shareTag.
const (
	hostTag  = "host"
	workTag  = "work"
	shareTag = "share"
)

// ownOptions are the flags that only this kind of machine has.
type ownOptions struct {
	accel   string
	udev    bool
	systemd bool
}

// ownConfig is what the guest is told beside what every machine's is.
type ownConfig struct {
	Udev    bool
	Systemd bool
	Host    []string // directories of the host that are shown at their own paths
}

func (o *ownOptions) addFlags(flags *flag.FlagSet) {
	flags.BoolVar(&o.udev, "udev", false, "run systemd-udevd: device nodes and links are its, and libdevmapper's tools wait for it")
	flags.BoolVar(&o.systemd, "systemd", false, "boot systemd, udev included, and run the command as a service of it")
	flags.Func("accel", "`kvm`, tcg (QEMU's emulation) or auto: KVM where a machine boots with it (default auto)", func(s string) error {
		if !slices.Contains([]string{"auto", "kvm", "tcg"}, s) {
			return fmt.Errorf("%q is none of kvm, tcg, auto", s)
		}
		o.accel = s
		return nil
	})
}

// boot says how QEMU is started.
func (o *ownOptions) boot(ctx context.Context, p machine.Plan, c *machine.Config) (machine.Program, error) {
	qemu, err := exec.LookPath(emulator)
	if err != nil {
		return machine.Program{}, errors.New("no " + emulator + " on the path: apt-get install qemu-system-x86")
	}
	img, err := makeImage(ctx)
	if err != nil {
		return machine.Program{}, err
	}
	own := ownConfig{Udev: o.udev, Systemd: o.systemd}
	if own.Host, err = shownDirs(p); err != nil {
		return machine.Program{}, err
	}
	c.Kind = own
	if !o.udev && !o.systemd {
		c.Env = append([]string{"DM_DISABLE_UDEV=1"}, c.Env...)
	}
	initrd := filepath.Join(p.Work, "initrd")
	if err := writeInitrd(initrd, img.initrd); err != nil {
		return machine.Program{}, err
	}
	kvm, err := o.useKVM(ctx, qemu, img, initrd)
	if err != nil {
		return machine.Program{}, err
	}
	args := slices.Concat(machineArgs(kvm, p.Memory), kernelArgs(img, initrd, workDir), diskArgs(img, p), shareArgs(p))
	return machine.Program{Path: qemu, Args: args}, nil
}

// machineArgs are the processors, the memory and what every machine has.
func machineArgs(kvm bool, memory int64) []string {
	// Emulated, a string instruction of bytes is a loop of bytes, which Linux and the C library prefer where a processor says that
	// it is fast (erms), and each look into a program's memory has to say so first (smap).
	accel, cpu := "tcg,thread=multi,tb-size=512", "max,-erms,-smap"
	if kvm {
		accel, cpu = "kvm", "host"
	}
	return []string{
		"-machine", "q35", "-accel", accel, "-cpu", cpu, "-smp", "2", "-m", strconv.FormatInt(memory>>20, 10) + "M",
		"-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-nic", "none", "-device", "virtio-rng-pci",
	}
}

// kernelArgs are the kernel and what it tells its first process. What protects from others takes long where it is emulated, of which there are
// none here: a program that lies elsewhere each time it is started is translated each time, and memory is cleared that is written next.
func kernelArgs(img image, initrd, work string) []string {
	const line = "console=ttyS0 quiet oops=panic panic=-1 mitigations=off nokaslr norandmaps init_on_alloc=0 rdinit=/init "
	return []string{"-kernel", img.kernel, "-initrd", initrd, "-append", line + machine.GuestVar + "=" + work}
}

// diskArgs are the blank disks, which come first so that their names do, the
// scratch disk, and the image's root, whose changes go to a file that QEMU has
// unlinked.
func diskArgs(img image, p machine.Plan) []string {
	const lost = ",cache=unsafe" // nobody waits for the host's disk
	var args []string
	disk := func(id, serial, file, more string) {
		args = append(args, "-drive", "if=none,id="+id+",format=raw,discard=unmap,file="+file+more,
			"-device", "virtio-blk-pci,drive="+id+",serial="+serial)
	}
	for i, file := range p.Disks {
		n, cache := strconv.Itoa(i), lost
		if p.Options.Disks[i].Device {
			cache = ",cache=none" // others look at it meanwhile
		}
		disk("disk"+n, "bstest-disk"+n, file, cache)
	}
	disk("scratch", scratchSerial, p.Scratch, lost)
	disk("root", rootSerial, img.root, lost+",snapshot=on")
	return args
}

// shareArgs are the host's root to read, and the work directory and the shares
// to write.
func shareArgs(p machine.Plan) []string {
	var args []string
	share := func(tag, dir, more string) {
		args = append(args, "-fsdev", "local,id="+tag+",security_model=passthrough,multidevs=remap,path="+dir+more,
			"-device", "virtio-9p-pci,fsdev="+tag+",mount_tag="+tag)
	}
	share(hostTag, "/", ",readonly=on")
	share(workTag, p.Work, "")
	for i, dir := range p.Shares {
		share(shareTag+strconv.Itoa(i), dir, "")
	}
	return args
}

// debianDirs are the directories of a root that are the machine's own.
func debianDirs() []string {
	return []string{"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "lost+found", "media", "mnt", "proc", "run", "sbin", "sys", "usr", "var"}
}

// shownDirs are the host's directories that the machine shows: all that are
// not Debian's own, and where the caller's files may be among those.
func shownDirs(p machine.Plan) ([]string, error) {
	entries, err := os.ReadDir("/")
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(debianDirs(), e.Name()) {
			dirs = append(dirs, "/"+e.Name())
		}
	}
	cache, err := machine.CacheDir()
	if err != nil {
		return nil, err
	}
	wanted := []string{moduleDir(p.Dir), cache, "/var/tmp"}
	if program := p.Command[0]; filepath.IsAbs(program) && !strings.HasPrefix(program, "/usr/") {
		wanted = append(wanted, filepath.Dir(program))
	}
	for _, dir := range wanted {
		top := "/" + strings.Split(dir, "/")[1]
		if !slices.Contains(dirs, top) && slices.Contains(debianDirs(), top[1:]) && strings.Count(dir, "/") > 1 {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs), nil
}

// moduleDir is the directory above dir, or dir, that has a go.mod: what a
// test looks for beside it is there too.
func moduleDir(dir string) string {
	for up := dir; up != "/"; up = filepath.Dir(up) {
		if _, err := os.Stat(filepath.Join(up, "go.mod")); err == nil {
			return up
		}
	}
	return dir
}
