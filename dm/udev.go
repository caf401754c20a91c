package dm

import (
	"context"

	"blockstore.dev/blockstore/ioctl"
)

// UdevMode says what the events that an operation causes tell udev, and whether somebody
// waits for it.
type UdevMode int

const (
	// UdevQuiet lets udev make its /dev/mapper links but tells its rules to leave the
	// device's content alone: no probing, no scanning, no watch. Nobody waits for
	// udev. That removes the main cause of EBUSY at removal.
	UdevQuiet UdevMode = iota
	// UdevWait does the same and waits, at most Options.UdevTimeout, until udev has
	// finished with the event. It is of use only where udev runs in the same
	// IPC namespace.
	UdevWait
)

// announced issues one of the commands whose uevents carry a cookie: resume, remove, rename.
func (c *Client) announced(ctx context.Context, r request) (Info, error) {
	r.eventNr = quietCookie
	return c.about(ctx, r)
}

// The flags of a cookie, its upper 16 bits (libdevmapper.h).
const (
	udevNoSubsystemRules = 0x02
	udevNoDiskRules      = 0x04
	udevNoOtherRules     = 0x08
	udevPrimarySource    = 0x40

	// quietCookie has flags only: base 0 stands for no semaphore.
	quietCookie = (udevPrimarySource | udevNoOtherRules | udevNoDiskRules | udevNoSubsystemRules) << 16
)

var _ = ioctl.DM_UEVENT_GENERATED_FLAG
