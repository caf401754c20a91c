package thinpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/internal/durable"
)

// The note of a clean stop (Config.Tidy) is the superblock that Close left. While the one on the disk says the same,
// nothing was torn since (see undoTorn), and a start need not look. The note is taken away before the pool comes up,
// which is not waited for: one that a power cut brings back speaks of an older superblock. That the newer one says the
// same, and a metadata snapshot is counted all the same, takes four trees that have come back to where they were, and as
// many blocks in use: unlikely, not impossible. So the taking away is waited for before this package has the kernel hold
// a metadata snapshot, and the unlikely is left to tools of others that do.

// noteOf is what the note says of a superblock: all that is known of one.
func noteOf(sb Superblock) string { return fmt.Sprintf("%+v\n", sb) }

// takeNote says whether the note is of this superblock, and takes it away.
func (c Config) takeNote(sb Superblock) (clean bool, err error) {
	if c.Tidy == "" {
		return false, nil
	}
	note, err := os.ReadFile(c.Tidy)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("the note of a clean stop: %w", err)
	}
	return string(note) == noteOf(sb), c.dropNote()
}

func (c Config) dropNote() error {
	if c.Tidy == "" {
		return nil
	}
	if err := ignoreMissing(os.Remove(c.Tidy)); err != nil {
		return fmt.Errorf("the note of a clean stop: %w", err)
	}
	return nil
}

// loseNote makes sure that no power cut brings the note back. The caller has p.reading.
func (p *Pool) loseNote() error {
	if p.config.Tidy == "" || p.noteLost {
		return nil
	}
	if err := errors.Join(p.config.dropNote(), durable.Dir(filepath.Dir(p.config.Tidy))); err != nil {
		return err
	}
	p.noteLost = true
	return nil
}

// takesChanges says whether all commits of the pool's life have worked, for a note to be left: after one that failed the
// kernel takes no changes any more, whatever it could write of that into the superblock.
func (p *Pool) takesChanges(ctx context.Context) bool {
	if p.config.Tidy == "" {
		return false
	}
	st, err := p.dm.ThinPoolStatus(ctx, p.ref, dm.StatusOptions{NoFlush: true})
	return err == nil && writable(st) == nil
}

// leaveNote is for the end of a Close. Where it cannot be left, as on a full disk, the stop is none the worse.
func (c Config) leaveNote() {
	sb, err := ReadSuperblock(c.Metadata)
	if err != nil || sb.NeedsCheck || sb.HeldRoot != 0 {
		return
	}
	if os.WriteFile(c.Tidy, []byte(noteOf(sb)), 0o600) != nil {
		_ = c.dropNote()
	}
}
