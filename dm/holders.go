package dm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Holder is somebody who keeps a device open: another block device, a mount, or a process.
type Holder struct {
	// Device is a block device that sits on top: its name if it is a device-mapper
	// device, else its name in sysfs, such as "loop0".
	Device string
	// Mount is the mount point of a file system on the device, as PID sees it.
	Mount string
	// PID and Command are the process that has the device open, or one that sees Mount.
	PID     int
	Command string
}

// String reads "device pool", "mount /mnt (pid 1, init)" or "pid 12 (dd)".
func (h Holder) String() string {
	switch {
	case h.Device != "":
		return "device " + h.Device
	case h.Mount != "":
		return fmt.Sprintf("mount %s (pid %d, %s)", h.Mount, h.PID, h.Command)
	}
	return fmt.Sprintf("pid %d (%s)", h.PID, h.Command)
}

// Holders finds who holds a device, from sysfs and procfs: a snapshot that may be out of
// date when it returns, and may miss what the caller cannot see. It looks at every
// process's open files, so it is for errors and for people, not for hot paths.
func (c *Client) Holders(ctx context.Context, ref Ref) ([]Holder, error) {
	info, err := c.Info(ctx, ref)
	if err != nil {
		return nil, err
	}
	holders, err := c.deviceHolders(info.Dev)
	if err != nil {
		return nil, err
	}
	processes, err := c.processes()
	if err != nil {
		return nil, err
	}
	namespaces := map[string]bool{}
	for _, p := range processes {
		if ctx.Err() != nil {
			return holders, fmt.Errorf("looking for holders of %s: %w", ref, context.Cause(ctx))
		}
		// Every process of a mount namespace sees the same mounts: look at one.
		if ns, err := os.Readlink(p.path("ns/mnt")); err == nil && !namespaces[ns] {
			namespaces[ns] = true
			holders = append(holders, c.mountHolders(p, info.Dev)...)
		}
		if c.opens(p, info.Dev) {
			holders = append(holders, Holder{PID: p.pid, Command: p.command()})
		}
	}
	return holders, nil
}

// nameHolders adds the holders to the error about a busy device, as far as they are found.
func (c *Client) nameHolders(ctx context.Context, ref Ref, err error) error {
	var busy *Error
	if !errors.As(err, &busy) {
		return err
	}
	// A context that has ended must not cost the answer to "who?".
	holders, _ := c.Holders(context.WithoutCancel(ctx), ref)
	busy.Holders = holders
	return err
}

// deviceHolders reads sysfs's holders directory (block/holder.c).
func (c *Client) deviceHolders(dev Number) ([]Holder, error) {
	entries, err := os.ReadDir(filepath.Join(c.sys, "dev/block", dev.String(), "holders"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // no table yet, so no disk
	}
	if err != nil {
		return nil, fmt.Errorf("looking for holders of %s: %w", dev, err)
	}
	var holders []Holder
	for _, entry := range entries {
		name := entry.Name()
		if text, err := os.ReadFile(filepath.Join(c.sys, "block", name, "dm/name")); err == nil {
			name = strings.TrimSpace(string(text))
		}
		holders = append(holders, Holder{Device: name})
	}
	return holders, nil
}

// A process is one directory of procfs. It may vanish at any time, so whatever cannot be
// read of it is taken as absent.
type process struct {
	dir string
	pid int
}

func (c *Client) processes() ([]process, error) {
	entries, err := os.ReadDir(c.proc)
	if err != nil {
		return nil, fmt.Errorf("looking for processes: %w", err)
	}
	var found []process
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			found = append(found, process{dir: filepath.Join(c.proc, entry.Name()), pid: pid})
		}
	}
	slices.SortFunc(found, func(a, b process) int { return a.pid - b.pid })
	return found, nil
}

func (p process) path(name string) string { return filepath.Join(p.dir, name) }

func (p process) command() string {
	text, err := os.ReadFile(p.path("comm"))
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(text))
}

func (c *Client) mountHolders(p process, dev Number) []Holder {
	text, err := os.ReadFile(p.path("mountinfo"))
	if err != nil {
		return nil
	}
	var holders []Holder
	for line := range strings.Lines(string(text)) {
		m, ok := parseMount(line)
		if ok && (m.device == dev.String() || c.isNode(m.source, dev)) {
			holders = append(holders, Holder{Mount: m.point, PID: p.pid, Command: p.command()})
		}
	}
	return holders
}

// opens says whether a process has the device open. Files outside /dev are not looked at:
// a stat of one on a dead network file system would hang.
func (c *Client) opens(p process, dev Number) bool {
	entries, err := os.ReadDir(p.path("fd"))
	if err != nil {
		return false
	}
	for _, entry := range entries {
		link := p.path("fd/" + entry.Name())
		name, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(name, c.dev+"/") && !strings.HasSuffix(name, " (deleted)") {
			continue
		}
		if number, err := BlockDeviceNumber(link); err == nil && number == dev {
			return true
		}
	}
	return false
}

// isNode says whether a mount's source is a node of the device: btrfs shows a device number
// of its own in mountinfo.
func (c *Client) isNode(source string, dev Number) bool {
	if !strings.HasPrefix(source, c.dev+"/") {
		return false
	}
	number, err := BlockDeviceNumber(source)
	return err == nil && number == dev
}

// A mount is what matters of a line of mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	device, point, source string
}

func parseMount(line string) (mount, bool) {
	head, tail, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(head), strings.Fields(tail)
	if !ok || len(left) < 5 || len(right) < 2 {
		return mount{}, false
	}
	return mount{device: left[2], point: unescape(left[4]), source: unescape(right[1])}, true
}

// unescape undoes mountinfo's octal escapes of space, tab, newline and backslash.
func unescape(text string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(text)
}
