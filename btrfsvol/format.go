package btrfsvol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// FormatOptions are the options of Format.
type FormatOptions struct {
	Label string
	// Force formats over another file system's remains. Without it mkfs refuses.
	Force bool
	// SingleMetadata keeps one copy of the metadata instead of two, which halves its
	// writes. Two copies on one file or flash device are seldom worth more than one.
	SingleMetadata bool
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
