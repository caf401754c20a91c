package btrfsvol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
)

// FormatOptions are the options of Format.
type FormatOptions struct {
	Label string
	// Force formats over another file system's remains. Without it mkfs refuses.
	Force bool
	// SingleMetadata keeps one copy of the metadata instead of two, which halves its
	// writes. Two copies on one file or flash device are seldom worth more than one.
	SingleMetadata bool
	// NodeSize is the size of a tree's node, a power of two from the sector size to 64 KiB,
	// fixed for the file system's life. 0 is mkfs' own choice, 16 KiB.
	NodeSize Bytes
}

// formatTries bounds how often mkfs.btrfs is started.
const formatTries = 5

// Format makes a btrfs file system on a file or block device, by mkfs.btrfs(8): the
// only call of this package that starts a program. ErrNotSupported when it is not
// installed.
//
// mkfs.btrfs asks each loop device that something is mounted from for its file, and gives up
// when one is detached at that moment: then it is started again.
func Format(ctx context.Context, path string, o FormatOptions) error {
	arguments := []string{"--quiet"}
	if o.Label != "" {
		arguments = append(arguments, "--label", o.Label)
	}
	if o.Force {
		arguments = append(arguments, "--force")
	}
	if o.SingleMetadata {
		arguments = append(arguments, "--metadata", "single")
	}
	if o.NodeSize != 0 {
		arguments = append(arguments, "--nodesize", strconv.FormatInt(int64(o.NodeSize), 10))
	}
	arguments = append(arguments, "--", path)
	stderr, err := mkfs(ctx, arguments)
	for try := 1; err != nil && bytes.Contains(stderr, []byte("cannot check mount status")) && try < formatTries; try++ {
		stderr, err = mkfs(ctx, arguments)
	}
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("btrfs: format %s: %w: %w (install btrfs-progs)", path, ErrNotSupported, err)
	case err != nil:
		return fmt.Errorf("btrfs: format %s: %w: %s", path, err, bytes.TrimSpace(stderr))
	}
	return nil
}

func mkfs(ctx context.Context, arguments []string) (stderr []byte, err error) {
	command := exec.CommandContext(ctx, "mkfs.btrfs", arguments...)
	var told bytes.Buffer
	command.Stderr = &told
	err = command.Run()
	return told.Bytes(), err
}
