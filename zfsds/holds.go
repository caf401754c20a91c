package zfsds

import (
	"context"
	"fmt"
)

// Hold keeps a snapshot from being destroyed until the tag is released. ErrExists when the tag
// holds it already.
func (h *Handle) Hold(ctx context.Context, snapshot, tag string) error {
	if err := ready(ctx, checkSnapshot(snapshot), checkTag(tag)); err != nil {
		return err
	}
	return failure(opHold, snapshot, h.hold(ctx, snapshot, tag))
}

// Release takes a hold away. A snapshot whose destruction was deferred goes with its last one.
func (h *Handle) Release(ctx context.Context, snapshot, tag string) error {
	if err := ready(ctx, checkSnapshot(snapshot), checkTag(tag)); err != nil {
		return err
	}
	return failure(opRelease, snapshot, h.release(ctx, snapshot, tag))
}

// Holds lists a snapshot's tags.
func (h *Handle) Holds(ctx context.Context, snapshot string) ([]string, error) {
	if err := ready(ctx, checkSnapshot(snapshot)); err != nil {
		return nil, err
	}
	tags, err := h.holds(ctx, snapshot)
	return tags, failure(opRead, snapshot, err)
}

// checkTag accepts what zfs-hold(8) does, but for those that begin with a dash or a dot.
func checkTag(tag string) error {
	if !component(tag) || len(tag) > 255 || tag[0] == '-' || tag[0] == '.' {
		return fmt.Errorf("zfs: %w: %.300q is no tag", ErrInvalid, tag)
	}
	return nil
}
