package snapshot

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// The catalog's buckets. Values are JSON unless said otherwise.
var (
	bucketMeta      = []byte("meta")      // "header" -> header, "ids" -> idRecord
	bucketSnapshots = []byte("snapshots") // name -> Info
	bucketVolumes   = []byte("volumes")   // volume id, 4 bytes big-endian -> name
	bucketChildren  = []byte("children")  // parent NUL child -> nothing
	bucketImages    = []byte("images")    // image id -> imageRecord
	bucketRefs      = []byte("refs")      // reference -> image id
	bucketTops      = []byte("tops")      // top layer NUL image id -> nothing
	bucketGarbage   = []byte("garbage")   // volume id -> nothing: removal committed, to be done
	bucketDoors     = []byte("doors")     // a door's name -> what it keeps, in its own JSON
)

func buckets() [][]byte {
	return [][]byte{
		bucketMeta, bucketSnapshots, bucketVolumes, bucketChildren,
		bucketImages, bucketRefs, bucketTops, bucketGarbage, bucketDoors,
	}
}

// catalog says what ought to exist. Concurrent updates share commits: whoever comes
// while one is written to disk waits and goes into the next, together with all others
// that wait.
//
// A commit is a record in the journal, which is one wait for the disk; the catalog's file
// has it at once and is not waited for. The file's pages are written over only when no
// state leads to them, and of the states that of the last checkpoint is kept: so after a
// power cut the checkpoint's state is whole, whatever of the later ones is, and the
// journal has what was added to it.
type catalog struct {
	db      *bbolt.DB
	file    *os.File // db's
	journal *journal
	kept    *bbolt.Tx // keeps the pages of the last checkpoint's state
	broken  error     // the journal and the file are not known to say the same

	mu      sync.Mutex
	queue   []*update
	leading bool

	counts catalogCounts
}

// update is a change that waits for its commit.
type update struct {
	fn   func(*tx) error
	lazy bool // a power cut may undo it, until a later one is durable
	done chan verdict
}

// verdict ends the wait of an update: with its result, or with the duty to
// write the next commit itself.
type verdict struct {
	err  error
	lead bool
}

// update runs fn in a transaction that is durable when update returns nil. fn
// may be run more than once, and must have no effect but on its tx. An fn that
// fails takes nothing with it.
func (c *catalog) update(fn func(*tx) error) error { return c.run(&update{fn: fn}) }

// updateLazily is update for what nobody misses after a power cut: it is durable with the next
// update. The death of the process undoes it no more than others.
func (c *catalog) updateLazily(fn func(*tx) error) error { return c.run(&update{fn: fn, lazy: true}) }

func (c *catalog) run(u *update) error {
	u.done = make(chan verdict, 1)
	c.mu.Lock()
	c.queue = append(c.queue, u)
	lead := !c.leading
	c.leading = true
	c.mu.Unlock()
	if !lead {
		v := <-u.done
		if !v.lead {
			return v.err
		}
	}
	c.mu.Lock()
	batch := c.queue
	c.queue = nil
	c.mu.Unlock()

	c.commit(batch)

	c.mu.Lock()
	if len(c.queue) > 0 {
		c.queue[0].done <- verdict{lead: true}
	} else {
		c.leading = false
	}
	c.mu.Unlock()
	return (<-u.done).err
}

// commit writes a batch in one transaction. The first update that fails is told
// so and the rest is tried again without it.
func (c *catalog) commit(batch []*update) {
	for len(batch) > 0 {
		began := time.Now()
		failed, written, err := c.try(batch)
		if errors.Is(err, unix.ENOSPC) && failed < 0 && c.journal.records > 0 && c.checkpoint() == nil { // now pages are free
			failed, written, err = c.try(batch)
		}
		if failed < 0 {
			if written || err != nil {
				c.counts.committed(len(batch), time.Since(began), err)
			}
			if err != nil {
				err = fmt.Errorf("committing to the catalog: %w", noSpace(err))
			}
			for _, u := range batch {
				u.done <- verdict{err: err}
			}
			return
		}
		batch[failed].done <- verdict{err: err}
		batch = append(batch[:failed:failed], batch[failed+1:]...)
	}
}

// try commits a batch. If an update fails it says which, and commits nothing; what changes
// nothing is not written.
func (c *catalog) try(batch []*update) (failed int, written bool, err error) {
	if c.broken != nil {
		return -1, false, c.broken
	}
	t, err := c.db.Begin(true)
	if err != nil {
		return -1, false, err
	}
	defer func() {
		if t != nil {
			err = errors.Join(err, t.Rollback())
		}
	}()
	var changes changes
	lazy := true
	for i, u := range batch {
		lazy = lazy && u.lazy
		if err := u.fn(&tx{t, &changes}); err != nil {
			return i, false, err
		}
	}
	if len(changes) == 0 {
		return -1, false, nil
	}
	if !fits(changes) {
		err = c.commitLarge(t)
		t = nil
		return -1, true, err
	}
	if err := c.log(changes, lazy); err != nil {
		return -1, false, err
	}
	failpoint.Hit("catalog.logged")
	err = t.Commit()
	t = nil
	if err != nil {
		if dropErr := c.journal.drop(changes); dropErr != nil {
			c.breakOff(dropErr)
			err = errors.Join(err, dropErr)
		}
	}
	return -1, err == nil, err
}

// view runs fn on a consistent state. fn must not call out of the package.
func (c *catalog) view(fn func(*tx) error) error {
	return c.db.View(func(t *bbolt.Tx) error { return fn(&tx{t: t}) })
}

// tx is a catalog transaction in the store's terms. All that changes the catalog goes by
// set and remove, which note it for the journal.
type tx struct {
	t       *bbolt.Tx
	changes *changes
}

func (t *tx) get(bucket []byte, key string, into any) (bool, error) {
	raw := t.t.Bucket(bucket).Get([]byte(key))
	if raw == nil {
		return false, nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return false, fmt.Errorf("catalog record %q in %s: %w: %w", key, bucket, ErrCorrupt, err)
	}
	return true, nil
}

func (t *tx) put(bucket []byte, key string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return t.set(bucket, key, raw)
}

// set is put of what is no JSON.
func (t *tx) set(bucket []byte, key string, value []byte) error {
	if err := t.t.Bucket(bucket).Put([]byte(key), value); err != nil {
		return err
	}
	t.changes.add(changeSet, bucket, []byte(key), value)
	return nil
}

func (t *tx) remove(bucket []byte, key string) error {
	if err := t.t.Bucket(bucket).Delete([]byte(key)); err != nil {
		return err
	}
	t.changes.add(changeRemove, bucket, []byte(key))
	return nil
}

// each calls fn for the keys that begin with prefix, in their order.
func (t *tx) each(bucket []byte, prefix string, fn func(key string, value []byte) error) error {
	c := t.t.Bucket(bucket).Cursor()
	for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
		if err := fn(string(k), v); err != nil {
			return err
		}
	}
	return nil
}

// any says whether a key with that prefix exists.
func (t *tx) any(bucket []byte, prefix string) bool {
	k, _ := t.t.Bucket(bucket).Cursor().Seek([]byte(prefix))
	return k != nil && bytes.HasPrefix(k, []byte(prefix))
}

func volumeKey(id VolumeID) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(id)))
}

func volumeFromKey(key string) VolumeID {
	return VolumeID(binary.BigEndian.Uint32([]byte(key)))
}

// noSpace adds ErrNoSpace to an error that the kernel gave for a full disk or a
// used-up quota.
func noSpace(err error) error {
	if err == nil || errors.Is(err, ErrNoSpace) {
		return err
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
