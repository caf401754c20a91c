package zfsds

import (
	"fmt"
	"strings"
)

// maxName is ZFS_MAX_DATASET_NAME_LEN without its NUL: a whole name, with its snapshot's.
const maxName = 255

// checkDataset accepts the name of a pool, file system or volume, as zcommon/zfs_namecheck.c
// has it, but for the internal ones that begin with $ or have a % in them.
func checkDataset(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("zfs: %w: name %.40q… is longer than %d bytes", ErrInvalid, name, maxName)
	}
	for i, part := range strings.Split(name, "/") {
		if !component(part) || part == "." || part == ".." {
			return fmt.Errorf("zfs: %w: %q is no name of a dataset", ErrInvalid, name)
		}
		if i == 0 && !letter(part[0]) {
			return fmt.Errorf("zfs: %w: %q: a pool's name begins with a letter", ErrInvalid, name)
		}
	}
	return nil
}

// checkSnapshot accepts dataset@snapshot.
func checkSnapshot(name string) error {
	dataset, snapshot, ok := strings.Cut(name, "@")
	if !ok || !component(snapshot) || len(name) > maxName {
		return fmt.Errorf("zfs: %w: %.300q is no name of a snapshot", ErrInvalid, name)
	}
	return checkDataset(dataset)
}

func checkSnapshots(names []string) error {
	for _, name := range names {
		if err := checkSnapshot(name); err != nil {
			return err
		}
		if poolOf(name) != poolOf(names[0]) {
			return fmt.Errorf("zfs: %w: %s and %s lie in two pools", ErrInvalid, names[0], name)
		}
	}
	return nil
}

// checkAny accepts either.
func checkAny(name string) error {
	if strings.Contains(name, "@") {
		return checkSnapshot(name)
	}
	return checkDataset(name)
}

func component(s string) bool {
	for i := range len(s) {
		if !letter(s[i]) && !strings.ContainsRune("0123456789-_.: ", rune(s[i])) {
			return false
		}
	}
	return s != ""
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// poolOf is the name's pool.
func poolOf(name string) string {
	if i := strings.IndexAny(name, "/@"); i >= 0 {
		return name[:i]
	}
	return name
}
