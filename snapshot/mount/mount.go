package mount

import (
	"errors"
	"fmt"
	"strings"

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
	for _, o := range m.Options {
		if o == "ro" {
			return true
		}
	}
	return false
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

// Unmount removes the topmost mount at target and waits for it (no lazy
// detaching, which leaves devices busy for good). What is not mounted is no
// error; what is in use is unix.EBUSY.
func Unmount(target string) error {
	err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("unmounting %s: %w", target, err)
}
