package dm

import (
	"fmt"
	"strings"

	"blockstore.dev/blockstore/ioctl"
)

// Limits of what the kernel copies; longer strings it would cut in silence.
const (
	maxTypeName = ioctl.DM_MAX_TYPE_NAME
	// MaxName is the longest device name in bytes.
	MaxName = ioctl.DM_NAME_LEN - 1
	// MaxUUID is the longest device uuid in bytes.
	MaxUUID = ioctl.DM_UUID_LEN - 1
)

// A Ref names an existing device in one of the three ways that the kernel knows:
// [Name], [UUID] or [Dev]. The zero Ref names none and is refused.
type Ref struct {
	name, uuid string
	dev        Number
}

// Name refers to a device by its name.
func Name(name string) Ref { return Ref{name: name} }

// UUID refers to a device by its uuid, which is the only name that a rename keeps.
func UUID(uuid string) Ref { return Ref{uuid: uuid} }

// Dev refers to a device by its number. Numbers are used again after a removal.
func Dev(number Number) Ref { return Ref{dev: number} }

// String is the name, the uuid or major:minor.
func (r Ref) String() string {
	switch {
	case r.name != "":
		return r.name
	case r.uuid != "":
		return r.uuid
	case !r.dev.IsZero():
		return r.dev.String()
	}
	return ""
}

func (r Ref) validate() error {
	switch {
	case r.name != "":
		return validateName(r.name)
	case r.uuid != "":
		return validateUUID(r.uuid)
	case r.dev.IsZero():
		return fmt.Errorf("%w: no device is named", ErrInvalid)
	}
	return nil
}

// validateName refuses what the kernel refuses (check_name in dm-ioctl.c) or cuts.
func validateName(name string) error {
	switch {
	case name == "", len(name) > MaxName:
		return fmt.Errorf("%w: device name %q is not 1 to %d bytes long", ErrInvalid, name, MaxName)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%w: device name %q has a slash or NUL", ErrInvalid, name)
	case name == "control", name == ".", name == "..":
		return fmt.Errorf("%w: device name %q is reserved", ErrInvalid, name)
	}
	return nil
}

func validateUUID(uuid string) error {
	if uuid == "" || len(uuid) > MaxUUID || strings.ContainsRune(uuid, 0) {
		return fmt.Errorf("%w: device uuid %q is not 1 to %d bytes without NUL", ErrInvalid, uuid, MaxUUID)
	}
	return nil
}
