package monitor

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/thinpool"
)

// keepFree is what the file system below loopback files keeps, in bytes: the pool is not extended into it.
const keepFree = 64 << 20

// Own is a pool of our own, on loopback files, which are made larger, or on devices, which are used as far as somebody
// has enlarged them.
type Own struct{ *thinpool.Pool }

var _ Pool = Own{}

// Limit is, of a loopback pool, what the file system below it has room for.
func (o Own) Limit(ctx context.Context, s Space) (uint64, error) {
	data, metadata, err := o.Sizes(ctx)
	if err != nil {
		return 0, err
	}
	c := o.Config()
	if !c.Loopback {
		if s == Data {
			return data, nil
		}
		return metadata, nil
	}
	if s == Metadata {
		free, _, err := below(c.Metadata)
		return min(metadata+free-min(free, keepFree), thinpool.MaxMetadataSize), err
	}
	free, occupied, err := below(c.Data)
	return occupied + free - min(free, keepFree), err // the file is sparse
}

// Extend makes the file larger, or takes the device as it is.
func (o Own) Extend(ctx context.Context, s Space, to uint64) error {
	if !o.Config().Loopback {
		to = 0
	}
	if s == Metadata {
		return o.GrowMetadata(ctx, to)
	}
	return o.GrowData(ctx, to)
}

// Beneath is thinpool.ErrNoSpace when the file system below loopback files is full: a write that it cannot take is an I/O
// error to the pool.
func (o Own) Beneath(context.Context) error {
	c := o.Config()
	if !c.Loopback {
		return nil
	}
	free, _, err := below(c.Data)
	if err == nil && free < keepFree {
		err = fmt.Errorf("%w: %s left for the loopback file %s: free some on its file system", thinpool.ErrNoSpace, humanize.IBytes(free), c.Data)
	}
	return err
}

// below is what the file system of a file has free, and what the file occupies there.
func below(path string) (free, occupied uint64, err error) {
	var fs unix.Statfs_t
	var file unix.Stat_t
	if err = unix.Statfs(filepath.Dir(path), &fs); err == nil {
		err = unix.Stat(path, &file)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("looking below %s: %w", path, err)
	}
	return fs.Bavail * uint64(fs.Bsize), uint64(file.Blocks) * 512, nil
}
