package peers

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/btrfsvol"
	"blockstore.dev/blockstore/dm"
)

// Space is what the file systems and pools of a site have given out, in bytes.
// Metadata is 0 for those that do not keep it apart from data.
type Space struct {
	Data, Metadata int64
}

// Sum is both.
func (s Space) Sum() int64 { return s.Data + s.Metadata }

// Since is what came after before.
func (s Space) Since(before Space) Space {
	return Space{s.Data - before.Data, s.Metadata - before.Metadata}
}

// account knows what one file system or pool has given out.
type account struct {
	space func(context.Context) (Space, error)
	// settle, if set, waits until what was removed is given back.
	settle func(context.Context) error
}

// Settle waits until what was removed at the site has been given back, as far as that
// goes on in the background.
func (s *Site) Settle(ctx context.Context) error {
	var errs []error
	for _, a := range s.accounts {
		if a.settle != nil {
			errs = append(errs, a.settle(ctx))
		}
	}
	return errors.Join(errs...)
}

// Space is what everything at the site takes, by the accounts of its file systems and
// pools. What was written counts when it is on disk.
func (s *Site) Space(ctx context.Context) (Space, error) {
	if len(s.accounts) == 0 {
		return Space{}, ErrCannot
	}
	var sum Space
	for _, a := range s.accounts {
		one, err := a.space(ctx)
		if err != nil {
			return sum, err
		}
		sum.Data, sum.Metadata = sum.Data+one.Data, sum.Metadata+one.Metadata
	}
	return sum, nil
}

// accountOf is a mounted file system's.
func (s *Site) accountOf(kind, dir string) error {
	if kind != "btrfs" {
		s.accounts = append(s.accounts, account{space: func(context.Context) (Space, error) {
			var st unix.Statfs_t
			if err := unix.Statfs(dir, &st); err != nil {
				return Space{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
			}
			return Space{Data: int64(st.Blocks-st.Bfree) * st.Bsize}, nil
		}})
		return nil
	}
	fs, err := btrfsvol.Open(dir)
	if err != nil {
		return err
	}
	s.Undo.Add("what is open at "+dir, fs.Close)
	s.accounts = append(s.accounts, account{
		space: func(context.Context) (Space, error) {
			space, err := fs.Space()
			return Space{int64(space.Data.Used), int64(space.Metadata.Used + space.System.Used)}, err
		},
		// Where everything is committed already only this sync wakes the cleaner.
		settle: func(ctx context.Context) error { return errors.Join(fs.Sync(), fs.WaitCleaned(ctx)) },
	})
	return nil
}

// space is a pool's account.
func (p *pool) space(ctx context.Context) (Space, error) {
	st, err := p.client.ThinPoolStatus(ctx, dm.Dev(p.dev), dm.StatusOptions{NoFlush: true})
	return Space{int64(st.DataUsed) * int64(poolBlock.Bytes()), int64(st.MetadataUsed) * dm.MetadataBlockSize}, err
}

// space is the account of the backing store that is our store's own.
func (b *Blockstore) space(ctx context.Context) (Space, error) {
	st, err := b.Status(ctx)
	return Space{st.Backing.Data.Used, st.Backing.Metadata.Used}, err
}
