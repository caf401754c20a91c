package snapshot

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
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

// catalog is the one file that says what ought to exist. Concurrent updates
// share commits: whoever comes while one is written to disk waits and goes into
// the next, together with all others that wait.
type catalog struct {
	db *bbolt.DB

	mu      sync.Mutex
	queue   []*update
	leading bool

	counts catalogCounts
}

// update is a change that waits for its commit.
type update struct {
	fn   func(*tx) error
	done chan verdict
}

// verdict ends the wait of an update: with its result, or with the duty to
// write the next commit itself.
type verdict struct {
	err  error
	lead bool
}

// openCatalog opens or makes the file at path. The store's lock must be held.
func openCatalog(path string) (*catalog, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true, NoSync: failpoint.Leave("catalog.flush"),
	})
	if err != nil {
		if errors.Is(err, unix.ENOSPC) {
			return nil, fmt.Errorf("opening the catalog %s: %w: %w", path, ErrNoSpace, err)
		}
		return nil, fmt.Errorf("opening the catalog %s: %w: %w", path, ErrCorrupt, err)
	}
	c := &catalog{db: db}
	have := false
	_ = db.View(func(t *bbolt.Tx) error {
		have = true
		for _, b := range buckets() { // one that was made by an older program lacks some
			have = have && t.Bucket(b) != nil
		}
		return nil
	})
	if have {
		return c, nil
	}
	err = db.Update(func(t *bbolt.Tx) error {
		for _, b := range buckets() {
			if _, err := t.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making the catalog %s: %w", path, err), db.Close())
	}
	return c, nil
}

func (c *catalog) close() error { return c.db.Close() }

// view runs fn on a consistent state. fn must not call out of the package.
func (c *catalog) view(fn func(*tx) error) error {
	return c.db.View(func(t *bbolt.Tx) error { return fn(&tx{t}) })
}

// update runs fn in a transaction that is durable when update returns nil. fn
// may be run more than once, and must have no effect but on its tx. An fn that
// fails takes nothing with it.
func (c *catalog) update(fn func(*tx) error) error {
	u := &update{fn: fn, done: make(chan verdict, 1)}
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
		failed := -1
		began := time.Now()
		err := c.db.Update(func(t *bbolt.Tx) error {
			for i, u := range batch {
				if err := u.fn(&tx{t}); err != nil {
					failed = i
					return err
				}
			}
			return nil
		})
		if failed < 0 {
			c.counts.committed(len(batch), time.Since(began), err)
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

// tx is a catalog transaction in the store's terms.
type tx struct{ t *bbolt.Tx }

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
	return t.t.Bucket(bucket).Put([]byte(key), raw)
}

func (t *tx) remove(bucket []byte, key string) error { return t.t.Bucket(bucket).Delete([]byte(key)) }

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
