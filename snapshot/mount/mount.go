package mount

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Mount is one mount without its target. Options are in mount(8)'s words.
type Mount struct {
	Type    string   `json:"type"`
	Source  string   `json:"source"`
	Options []string `json:"options,omitempty"`
}

// ReadOnly says whether the options make the mount read-only.
func (m Mount) ReadOnly() bool {
	return slices.Contains(m.Options, "ro")
}

// flags are the options that mount(2) takes as bits; the rest goes to the file
// system as data.
var flags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "rw": 0, "bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC,
	"nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "nosuid": unix.MS_NOSUID,
	"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
	"sync": unix.MS_SYNCHRONOUS, "dirsync": unix.MS_DIRSYNC,
}

// At mounts m at target. A read-only bind mount takes two system calls, since
// the kernel ignores MS_RDONLY in the first.
func At(m Mount, target string) error {
	var bits uintptr
	var data []string
	for _, o := range m.Options {
		if f, ok := flags[o]; ok {
			bits |= f
		} else {
			data = append(data, o)
		}
	}
	if err := unix.Mount(m.Source, target, m.Type, bits, strings.Join(data, ",")); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", m.Source, target, err)
	}
	if bits&unix.MS_BIND != 0 && bits&^(unix.MS_BIND|unix.MS_REC) != 0 {
		if err := unix.Mount("", target, "", bits&^uintptr(unix.MS_REC)|unix.MS_REMOUNT, ""); err != nil {
			err = fmt.Errorf("making the bind mount at %s read-only: %w", target, err)
			return errors.Join(err, Unmount(target))
		}
	}
	return nil
}

// All performs mounts one after the other on target, and undoes them when one
// fails.
func All(ms []Mount, target string) error {
	for i, m := range ms {
		if err := At(m, target); err != nil {
			for ; i > 0; i-- {
				err = errors.Join(err, Unmount(target))
			}
			return err
		}
	}
	return nil
}

// Labelled performs mounts as All does, with an SELinux context for all files
// below target; "" is All. The file system takes it as an option of the mount. A
// bind mount shows a file system that is mounted without one, so there the label
// is written to the files themselves.
func Labelled(ms []Mount, target, label string) error {
	if label == "" || len(ms) == 0 {
		return All(ms, target)
	}
	last := ms[len(ms)-1]
	if !last.Binds() {
		return All(append(slices.Clone(ms[:len(ms)-1]), last.withLabel(label)), target)
	}
	if err := All(ms, target); err != nil {
		return err
	}
	if last.ReadOnly() { // its files keep the labels that they were sealed with
		return nil
	}
	if err := relabel(target, label); err != nil {
		for range ms {
			err = errors.Join(err, Unmount(target))
		}
		return err
	}
	return nil
}

// withLabel quotes the label, since categories are joined by commas (mount(8), context=).
func (m Mount) withLabel(label string) Mount {
	m.Options = append(slices.Clone(m.Options), `context="`+label+`"`)
	return m
}

// Binds says whether the mount shows a directory of another mount.
func (m Mount) Binds() bool {
	return slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// ReadOnly makes the mount at target read-only, and leaves the file system that it
// shows and other mounts of it alone. Open files that are written to are unix.EBUSY.
func ReadOnly(target string) error {
	err := unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_SYMLINK_NOFOLLOW, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err != nil {
		return fmt.Errorf("making the mount at %s read-only: %w", target, err)
	}
	return nil
}

// Private keeps what is mounted at and below target out of other mount namespaces.
func Private(target string) error {
	if err := unix.Mount("", target, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mount at %s private: %w", target, err)
	}
	return nil
}

// Detach takes the topmost mount at target out of sight at once. Whoever has files
// open in it keeps them, and the file system busy.
func Detach(target string) error {
	err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("detaching %s: %w", target, err)
}

// busyTries is how often Unmount finds a target busy before it says so; a millisecond lies behind the first, twice as
// long behind the next, and so on. A child that another part of the process forks has its descriptors until its execve(2)
// closes them, also those that the process has closed meanwhile; on busy processors that has taken more than 31 ms.
const busyTries = 8

// Unmount removes the topmost mount at target and waits for it (no lazy
// detaching, which leaves devices busy for good). What is not mounted is no
// error; what is in use for longer than some 130 ms is unix.EBUSY.
func Unmount(target string) error {
	var err error
	for try := range busyTries {
		if err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW); !errors.Is(err, unix.EBUSY) {
			break
		}
		if try < busyTries-1 {
			time.Sleep(time.Millisecond << try)
		}
	}
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("unmounting %s: %w", target, err)
}
