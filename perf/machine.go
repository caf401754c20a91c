package perf

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/mount"
)

// Machine is where a run took place.
type Machine struct {
	Kernel    string `json:"kernel"` // name, release and version, as in uname(1)
	Processor string `json:"processor"`
	CPUs      int    `json:"cpus"`
	Memory    int64  `json:"memory"` // bytes
	// Load is the load average when the run began: others' work is in the figures.
	Load string `json:"load"`
	// Disk is the file system that everything lay on, with its device.
	Disk string `json:"disk"`
	// UML: a User Mode Linux machine, in which system calls cost much more than
	// anywhere else.
	UML bool `json:"uml"`
}

// ThisMachine reads the facts. dir is where the run works.
func ThisMachine(dir string) (Machine, error) {
	m := Machine{CPUs: runtime.NumCPU()}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return m, fmt.Errorf("asking for the kernel's name: %w", err)
	}
	m.Kernel = strings.Join([]string{
		unix.ByteSliceToString(uts.Sysname[:]), unix.ByteSliceToString(uts.Release[:]), unix.ByteSliceToString(uts.Version[:]),
	}, " ")
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return m, fmt.Errorf("asking for the memory: %w", err)
	}
	m.Memory = int64(info.Totalram) * int64(info.Unit)
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	m.Processor = processor(string(cpuinfo))
	m.UML = strings.Contains(string(cpuinfo), "User Mode Linux")
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return m, err
	}
	m.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	m.Disk, err = disk(dir)
	return m, err
}

// onThisKernel is where a run takes place that is in no test machine.
const onThisKernel = "on this machine's kernel"

// Where ends a sentence: what kind of machine the run took place in.
func (m Machine) Where() string {
	switch {
	case m.UML:
		return "in User Mode Linux"
	case strings.HasPrefix(m.Processor, "QEMU TCG"):
		return "in a virtual machine, by emulation"
	}
	return onThisKernel
}

// processor finds the processor's name in the text of /proc/cpuinfo. User Mode
// Linux names the kernel below it there.
func processor(cpuinfo string) string {
	found := map[string]string{}
	for line := range strings.Lines(cpuinfo) {
		name, value, _ := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); found[name] == "" {
			found[name] = strings.TrimSpace(value)
		}
	}
	if host := found["host"]; host != "" {
		return "User Mode Linux on " + host
	}
	return found["model name"]
}

// disk names the mount that a directory lies on.
func disk(dir string) (string, error) {
	table, err := mount.Table()
	if err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	best := mount.Entry{}
	for _, e := range table {
		inside := e.Target == "/" || dir == e.Target || strings.HasPrefix(dir, e.Target+"/")
		if inside && len(e.Target) >= len(best.Target) {
			best = e
		}
	}
	return best.Type + " on " + best.Source, nil
}

// String is one line for people.
func (m Machine) String() string {
	return fmt.Sprintf("%s; %s, %d CPUs, %s; load %s; work on %s",
		m.Kernel, m.Processor, m.CPUs, humanize.IBytes(uint64(m.Memory)), m.Load, m.Disk)
}
