package dirdriver

import (
	"context"

	"blockstore.dev/blockstore/snapshot"
)

// unpacker writes each layer in its own directory.
type unpacker struct {
	d       *Driver
	ids     []snapshot.VolumeID
	release func()
}

// Unpack begins with a copy of the origin.
func (d *Driver) Unpack(_ context.Context, o snapshot.UnpackOptions) (snapshot.Unpacker, error) {
	d.faults.call("unpack")
	if err := d.faults.step("unpack.begin"); err != nil {
		return nil, err
	}
	if err := d.copyFrom(o.Volumes[0], o.Origin.ID); err != nil {
		return nil, err
	}
	return &unpacker{d: d, ids: o.Volumes, release: d.faults.exclusive("unpack", o.Volumes[0])}, nil
}

// Dir is the directory of the layer being written.
func (u *unpacker) Dir() string {
	if len(u.ids) == 0 {
		return ""
	}
	return u.d.tree(u.ids[0])
}

// Seal marks this layer and copies it for the next.
func (u *unpacker) Seal(context.Context) error {
	u.d.faults.call("unpack-seal")
	if err := u.d.faults.step("unpack.seal"); err != nil {
		return err
	}
	done := u.ids[0]
	if err := u.d.markSealed(done); err != nil {
		return err
	}
	if err := u.d.faults.step("unpack.sealed"); err != nil {
		return err
	}
	u.release()
	u.release, u.ids = func() {}, u.ids[1:]
	if len(u.ids) == 0 {
		return nil
	}
	u.release = u.d.faults.exclusive("unpack", u.ids[0])
	return u.d.copyFrom(u.ids[0], done)
}

// Close ends the work.
func (u *unpacker) Close() error {
	u.d.faults.call("unpack-close")
	u.release()
	u.release, u.ids = func() {}, nil
	return u.d.faults.step("unpack.close")
}
