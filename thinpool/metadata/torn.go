package metadata

import (
	"context"

	"blockstore.dev/blockstore/dm"
)

// HeldRoot finds the metadata snapshot that a pool holds by what its space map counts, whatever the superblock says: 0
// for none. The two differ after a power cut, since the kernel writes the superblock's word of a metadata snapshot that
// it takes or releases (dm-thin-metadata.c, __reserve_metadata_snap and __release_metadata_snap) together with the
// blocks of the commit behind it, and before that commit: the superblock then names a snapshot for which nothing is
// counted, or none while one is counted. It reads all metadata blocks that are in use. The pool must be down.
func (v *View) HeldRoot(ctx context.Context) (dm.MetadataBlocks, error) {
	counts, err := v.MetadataSpaceMap()
	if err != nil {
		return 0, err
	}
	b := make([]byte, blockSize)
	for run, err := range counts.Counts(ctx) {
		if err != nil {
			return 0, err
		}
		if run.Count == 0 {
			continue
		}
		if at := dm.MetadataBlocks(run.Begin); v.sb.HeldRoot != 0 {
			if at <= v.sb.HeldRoot && uint64(v.sb.HeldRoot) < run.Begin+run.Length {
				return v.sb.HeldRoot, nil
			}
			continue
		}
		for i := max(run.Begin, 1); i < run.Begin+run.Length; i++ {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			if err := v.readRaw(dm.MetadataBlocks(i), b); err != nil {
				return 0, err
			}
			if _, err := parseSuperblock(b, dm.MetadataBlocks(i)); err == nil {
				return dm.MetadataBlocks(i), nil
			}
		}
	}
	return 0, nil
}
