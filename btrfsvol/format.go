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

// Format makes a btrfs file system on a file or block device, by mkfs.btrfs(8): the
// only call of this package that starts a program. ErrNotSupported when it is not
// installed.
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
	command := exec.CommandContext(ctx, "mkfs.btrfs", append(arguments, "--", path)...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	err := command.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("btrfs: format %s: %w: %w (install btrfs-progs)", path, ErrNotSupported, err)
	case err != nil:
		return fmt.Errorf("btrfs: format %s: %w: %s", path, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}
