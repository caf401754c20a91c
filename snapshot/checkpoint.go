package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// catalogMost is the most that the catalog's file can grow to. That much address space is
// taken at once, since bbolt can take more only while nobody reads, and the catalog always
// does: see catalog.kept. It is room for more records than there are volume ids.
const catalogMost = 16 << 30

// catalogStep is what the file grows by; the rest of it is a hole.
const catalogStep = 1 << 20

// errNoJournal is the error of a catalog that may lack what was committed.
var errNoJournal = errors.New(journalFile + ", which belongs to it, is not beside it or is damaged: put both back from one copy")

// openCatalog opens or makes the file at path, and the journal beside it, and adds to the
// one what the other has. The store's lock must be held.
func openCatalog(path string) (_ *catalog, err error) {
	c := &catalog{}
	if err = c.open(path); err == nil {
		return c, nil
	}
	c.breakOff(err)
	sentinel := ErrCorrupt
	if errors.Is(err, unix.ENOSPC) {
		sentinel = ErrNoSpace
	}
	return nil, errors.Join(fmt.Errorf("opening the catalog %s: %w: %w", path, sentinel, err), c.close())
}

func (c *catalog) open(path string) (err error) {
	journalPath := filepath.Join(filepath.Dir(path), journalFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) { // a journal without it is one of a store that was removed
		if err := ignoreMissing(os.Remove(journalPath)); err != nil {
			return err
		}
	}
	var records [][]byte
	if c.journal, records, err = openJournal(journalPath); err != nil {
		return err
	}
	found := c.journal != nil
	if found {
		err = c.journal.head.Base.restore(path)
	} else if err = refuseAlone(path); err == nil {
		c.journal, err = makeJournal(journalPath)
	}
	if err != nil {
		return err
	}
	if err := c.openFile(path); err != nil {
		return err
	}
	if found {
		if c.kept, err = c.db.Begin(false); err != nil {
			return err
		}
		return c.replay(records)
	}
	if err := c.replay(nil); err != nil {
		return err
	}
	return c.checkpoint()
}

func (c *catalog) openFile(path string) (err error) {
	c.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true, NoSync: true, InitialMmapSize: catalogMost,
		MaxSize: catalogMost,
		OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
			c.file, err = os.OpenFile(path, flag, mode)
			return c.file, err
		},
	})
	if err == nil {
		c.db.AllocSize = catalogStep
	}
	return err
}

// refuseAlone refuses a catalog that had a journal, which may have had what the catalog has
// not. One that cannot be opened is for others to refuse.
func refuseAlone(path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return nil // there may be none
	}
	err = db.View(func(t *bbolt.Tx) error {
		if t.Bucket(bucketMeta) == nil {
			return nil
		}
		h, err := (&tx{t: t}).header()
		if err == nil && h.Version >= versionJournal {
			err = errNoJournal
		}
		return err
	})
	return errors.Join(err, db.Close())
}

// replay adds what was committed after the last checkpoint, and makes what buckets an
// older program did not know.
func (c *catalog) replay(records [][]byte) error {
	complete := true
	_ = c.db.View(func(t *bbolt.Tx) error {
		for _, b := range buckets() {
			complete = complete && t.Bucket(b) != nil
		}
		return nil
	})
	if complete && len(records) == 0 {
		return nil
	}
	return c.db.Update(func(t *bbolt.Tx) error {
		for _, b := range buckets() {
			if _, err := t.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		for _, r := range records {
			if err := changes(r).apply(t); err != nil {
				return err
			}
		}
		return nil
	})
}

// log makes changes durable, or ready to be with later ones. After an error they have not happened.
func (c *catalog) log(changes changes, lazy bool) error {
	err := c.journal.append(changes, lazy)
	if errors.Is(err, errJournalFull) {
		if err = c.checkpoint(); err == nil {
			err = c.journal.append(changes, lazy)
		}
	}
	if err != nil {
		err = errors.Join(err, c.journal.void())
	}
	return err
}

// commitLarge commits what the journal has no room for.
func (c *catalog) commitLarge(t *bbolt.Tx) error {
	if err := t.Commit(); err != nil {
		return err
	}
	err := c.checkpoint()
	if err != nil {
		c.breakOff(err)
	}
	return err
}

// checkpoint makes the catalog's file durable as it is, and begins a journal on that.
func (c *catalog) checkpoint() error {
	kept, err := c.db.Begin(false)
	if err != nil {
		return err
	}
	if err := c.db.Sync(); err != nil { // the kernel forgets what it could not write, and would say nothing the next time
		c.breakOff(err)
		return errors.Join(err, kept.Rollback())
	}
	failpoint.Hit("catalog.synced")
	b, err := c.base(kept)
	if err == nil {
		err = c.journal.begin(b)
	}
	if err != nil {
		return errors.Join(err, kept.Rollback())
	}
	failpoint.Hit("catalog.checkpoint")
	if c.kept != nil {
		err = c.kept.Rollback()
	}
	c.kept = kept
	return err
}

// breakOff ends all commits: the file and the journal are not known to say the same. The next open has what the
// journal says.
func (c *catalog) breakOff(why error) {
	c.broken = fmt.Errorf("a commit was left half done; close the store and open it again: %w", why)
}

// base reads the state that t sees, which is the last one.
func (c *catalog) base(t *bbolt.Tx) (base, error) {
	b := base{Tx: uint64(t.ID()), PageSize: uint32(c.db.Info().PageSize)}
	for i := range b.Metas {
		if _, err := c.file.ReadAt(b.Metas[i][:], int64(i)*int64(b.PageSize)); err != nil {
			return b, err
		}
	}
	return b, nil
}

// restore takes the file at path back to the state b, all pages of which it has.
func (b base) restore(path string) (err error) {
	if err := b.refuseOlder(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for i := range b.Metas {
		at := int64(i) * int64(b.PageSize)
		var now [metaBytes]byte
		if _, err := f.ReadAt(now[:], at); err == nil && now == b.Metas[i] {
			continue
		}
		if _, err := f.WriteAt(b.Metas[i][:], at); err != nil {
			return err
		}
	}
	return nil
}

// refuseOlder refuses a file that was never in the state b: an older copy, say. One that
// cannot be opened was cut off in the midst of a later state.
func (b base) refuseOlder(path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return nil // restore mends that
	}
	err = db.View(func(t *bbolt.Tx) error {
		if uint64(t.ID()) < b.Tx {
			return fmt.Errorf("it is older than %s beside it: put both back from one copy", journalFile)
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// close leaves what the next open has to add again in the journal, unless it is much.
func (c *catalog) close() error {
	var errs []error
	if c.kept != nil && c.broken == nil && c.journal.end > journalSize/2 {
		errs = append(errs, c.checkpoint())
	}
	if c.kept != nil {
		errs = append(errs, c.kept.Rollback())
	}
	if c.db != nil {
		errs = append(errs, c.db.Close())
	}
	if c.journal != nil {
		errs = append(errs, c.journal.close())
	}
	return errors.Join(errs...)
}
