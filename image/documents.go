package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

const (
	// maxDocument bounds one JSON document, maxDocuments all of an archive.
	maxDocument  = 8 << 20
	maxDocuments = 64 << 20
)

// documents reads the JSON documents of an archive, in bounded memory.
type documents struct {
	members members
	mu      sync.Mutex
	read    int64
}

// bytes reads a document whole.
func (d *documents) bytes(name string) (_ []byte, err error) {
	m, err := d.members.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if m.again {
		// Tools differ in which they take: what one of them checked is not what
		// another loads.
		return nil, bad(ErrMalformed, name, "is in the archive more than once")
	}
	if m.size > maxDocument {
		return nil, bad(ErrMalformed, name, "%d bytes is more than the %d that a document may have", m.size, maxDocument)
	}
	d.mu.Lock()
	d.read += m.size
	total := d.read
	d.mu.Unlock()
	if total > maxDocuments {
		return nil, bad(ErrMalformed, name, "the archive's documents have more than %d bytes together", maxDocuments)
	}
	return io.ReadAll(m.reader())
}

// has tells whether there is such a document, or something in its place.
func (d *documents) has(name string) (bool, error) {
	m, err := d.members.open(name)
	if errors.Is(err, ErrMissing) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, m.Close()
}

// json reads a document into v.
func (d *documents) json(name string, v any) error {
	data, err := d.bytes(name)
	if err != nil {
		return err
	}
	return parseDocument(data, name, v)
}

// parseDocument decodes one JSON value, the whole of data. An object that has a
// key twice is refused, because decoders differ in which value they take.
func parseDocument(data []byte, name string, v any) error {
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return bad(ErrMalformed, name, "is null")
	}
	if err := json.Unmarshal(data, v); err != nil {
		return damaged(err, name, "not the JSON that it should be")
	}
	if err := uniqueKeys(json.NewDecoder(bytes.NewReader(data))); err != nil {
		return damaged(err, name, "ambiguous JSON")
	}
	return nil
}

// uniqueKeys reads one value and fails at an object with a key twice.
func uniqueKeys(d *json.Decoder) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			if k, _ := key.(string); seen[k] {
				return fmt.Errorf("key %s appears twice in one object", printable(k))
			} else {
				seen[k] = true
			}
		}
		if err := uniqueKeys(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// checkDigest refuses what is not a digest of a kind that we verify.
func checkDigest(d digest.Digest, what, member string) error {
	if err := d.Validate(); err != nil {
		return bad(ErrMalformed, member, "%s %s is not a digest: %v", what, printable(string(d)), err)
	}
	switch d.Algorithm() {
	case digest.SHA256, digest.SHA512, digest.SHA384:
		return nil
	}
	return bad(ErrUnsupported, member, "%s %s: unknown algorithm", what, d)
}
