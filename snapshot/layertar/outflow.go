package layertar

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
)

// outflow hashes and writes in a goroutine of its own what is written to it, so that
// reading the tree, and compressing the tar, overlap. For one goroutine.
type outflow struct {
	full    chan []byte
	free    chan []byte
	done    chan struct{}
	cur     []byte
	written int64
	sum     hash.Hash
	err     error // of the writer; read after done
}

var errOutflow = errors.New("the writer failed")

func newOutflow(w io.Writer) *outflow {
	o := &outflow{
		full: make(chan []byte, pumpChunks), free: make(chan []byte, pumpChunks),
		done: make(chan struct{}), sum: sha256.New(),
	}
	for range pumpChunks - 1 {
		o.free <- nil
	}
	o.cur = make([]byte, 0, pumpChunk)
	go o.drain(w)
	return o
}

func (o *outflow) drain(w io.Writer) {
	defer close(o.done)
	for b := range o.full {
		o.sum.Write(b)
		if _, err := w.Write(b); err != nil {
			o.err = fmt.Errorf("writing: %w", err)
			return
		}
		o.free <- b[:0]
	}
}

// Write fails with an unspecific error after the writer failed; close gives the
// writer's own.
func (o *outflow) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(o.cur) == cap(o.cur) {
			if err := o.swap(); err != nil {
				return 0, err
			}
		}
		m := copy(o.cur[len(o.cur):cap(o.cur)], p)
		o.cur, p = o.cur[:len(o.cur)+m], p[m:]
	}
	o.written += int64(n)
	return n, nil
}

func (o *outflow) swap() error {
	o.full <- o.cur // never blocks: as many places as buffers
	select {
	case o.cur = <-o.free:
	case <-o.done:
		o.cur = nil
		return errOutflow
	}
	if o.cur == nil {
		o.cur = make([]byte, 0, pumpChunk)
	}
	return nil
}

// close writes the rest and waits. It is called once.
func (o *outflow) close() error {
	if len(o.cur) > 0 {
		o.full <- o.cur
	}
	close(o.full)
	<-o.done
	return o.err
}

// digest may be called after close.
func (o *outflow) digest() digest.Digest { return digest.NewDigest(digest.SHA256, o.sum) }
