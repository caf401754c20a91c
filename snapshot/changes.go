package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// changes are what a transaction did to the catalog, in its order, as a record of the
// journal: for each a byte that says which kind it is, and bucket, key and value, each
// with its length before it.
type changes []byte

const (
	changeSet byte = iota + 1
	changeRemove
)

func (c *changes) add(kind byte, fields ...[]byte) {
	all := append(*c, kind)
	for _, f := range fields {
		all = binary.AppendUvarint(all, uint64(len(f)))
		all = append(all, f...)
	}
	*c = all
}

// apply does the changes again.
func (c changes) apply(t *bbolt.Tx) error {
	for len(c) > 0 {
		kind := c[0]
		c = c[1:]
		var bucket, key, value []byte
		err := errors.Join(c.field(&bucket), c.field(&key))
		if kind == changeSet {
			err = errors.Join(err, c.field(&value))
		}
		if err != nil {
			return err
		}
		b := t.Bucket(bucket)
		switch {
		case b == nil:
			return fmt.Errorf("the journal has a change in %q, which does not exist: %w", bucket, ErrCorrupt)
		case kind == changeSet:
			err = b.Put(key, value)
		case kind == changeRemove:
			err = b.Delete(key)
		default:
			err = fmt.Errorf("the journal has a change of kind %d: %w", kind, ErrCorrupt)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// field takes the next field off.
func (c *changes) field(into *[]byte) error {
	n, width := binary.Uvarint(*c)
	if width <= 0 || n > uint64(len(*c)-width) {
		return fmt.Errorf("a record of the journal ends in the midst of a change: %w", ErrCorrupt)
	}
	*into = (*c)[width:][:n]
	*c = (*c)[width+int(n):]
	return nil
}
