package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/mount"
)

// private makes the directory of shown volumes a private file system of its own, in memory: what
// is mounted in it is not copied to other mount namespaces, where it would keep
// volumes busy after it was unmounted here, and a mount point costs no write to the
// disk. It stays as long as anything is shown.
func (v *volumes) private() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.apart {
		return nil
	}
	dir := filepath.Join(v.store.root, dirMounts)
	is, err := isMountPoint(dir)
	switch {
	case err != nil:
	case is:
		err = mount.Private(dir)
	default:
		err = setApart(dir, v.store.root)
	}
	if err != nil {
		return fmt.Errorf("setting the mounts below %s apart: %w", dir, err)
	}
	v.apart = true
	return nil
}

// setApart mounts a private tmpfs(5) at dir, which lets those through that the directory like does.
func setApart(dir, like string) error {
	var st unix.Stat_t
	if err := unix.Stat(like, &st); err != nil {
		return err
	}
	m := mount.Mount{Type: "tmpfs", Source: "blockstore", Options: []string{
		"nosuid", "nodev", "noexec", fmt.Sprintf("mode=%o", st.Mode&0o777), fmt.Sprintf("gid=%d", st.Gid),
	}}
	if err := mount.At(m, dir); err != nil {
		return err
	}
	if err := mount.Private(dir); err != nil {
		return errors.Join(err, mount.Unmount(dir))
	}
	return nil
}

// together undoes private, unless something is shown still.
func together(root string) error {
	dir := filepath.Join(root, dirMounts)
	is, err := isMountPoint(dir)
	if err != nil || !is {
		return err
	}
	if err := mount.Unmount(dir); err != nil && !errors.Is(err, unix.EBUSY) {
		return err
	}
	return nil
}

func isMountPoint(dir string) (bool, error) {
	below, err := mount.Below(dir)
	for _, e := range below {
		if e.Target == dir {
			return true, err
		}
	}
	return false, err
}

// AllowGroup lets the processes of a group come as far as to what is mounted, and
// nowhere else: the root of a user namespace is one, on the host a stranger. Group 0
// lets nobody but root, as it is at first.
func (s *Store) AllowGroup(gid int) error {
	mode := os.FileMode(0o710)
	if gid == 0 {
		mode = 0o700
	}
	for _, dir := range []string{s.root, filepath.Join(s.root, dirMounts)} {
		if err := errors.Join(os.Chown(dir, -1, gid), os.Chmod(dir, mode)); err != nil {
			return fmt.Errorf("letting group %d through: %w", gid, err)
		}
	}
	return nil
}
