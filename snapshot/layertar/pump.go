package layertar

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

const (
	pumpChunk  = 256 << 10
	pumpChunks = 8 // 2 MiB in flight: enough to even out bursts, little enough to forget
)

// chunk is a piece of the stream that two goroutines read.
type chunk struct {
	buf  []byte
	n    int
	refs atomic.Int32
}

// pump reads a stream ahead in its own goroutine and hashes it in another, so that
// decompression, hashing and unpacking overlap. It is an io.Reader for one goroutine.
type pump struct {
	data   chan *chunk
	hashed chan *chunk
	free   chan *chunk
	quit   chan struct{}
	wait   sync.WaitGroup

	cur  *chunk
	rest []byte
	end  error // why data was closed: io.EOF, the reader's error, the context's
	sum  hash.Hash
	read int64
}

func newPump(ctx context.Context, r io.Reader) *pump {
	p := &pump{
		data:   make(chan *chunk, pumpChunks),
		hashed: make(chan *chunk, pumpChunks),
		free:   make(chan *chunk, pumpChunks),
		quit:   make(chan struct{}),
		sum:    sha256.New(),
	}
	for range pumpChunks {
		p.free <- &chunk{}
	}
	p.wait.Go(func() { p.fill(ctx, r) })
	p.wait.Go(p.hash)
	return p
}

func (p *pump) fill(ctx context.Context, r io.Reader) {
	defer close(p.data)
	defer close(p.hashed)
	for {
		var c *chunk
		select {
		case c = <-p.free:
		case <-p.quit:
			p.end = context.Canceled
			return
		case <-ctx.Done():
			p.end = context.Cause(ctx)
			return
		}
		if c.buf == nil {
			c.buf = make([]byte, pumpChunk)
		}
		n, err := readFull(r, c.buf)
		if n > 0 {
			c.n = n
			c.refs.Store(2)
			p.data <- c // never blocks: as many places as chunks
			p.hashed <- c
		}
		if err != nil {
			p.end = err
			return
		}
	}
}

// readFull fills b as far as it can and, unlike io.ReadFull, gives the reader's own
// error: a decompressor's io.ErrUnexpectedEOF must not pass for a plain end.
func readFull(r io.Reader, b []byte) (int, error) {
	n := 0
	for empty := 0; n < len(b); {
		m, err := r.Read(b[n:])
		n += m
		if err != nil {
			return n, err
		}
		if m > 0 {
			empty = 0
		} else if empty++; empty > 100 {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

func (p *pump) hash() {
	for c := range p.hashed {
		p.sum.Write(c.buf[:c.n])
		p.release(c)
	}
}

func (p *pump) release(c *chunk) {
	if c.refs.Add(-1) == 0 {
		p.free <- c
	}
}

// Read copies from the chunk at hand.
func (p *pump) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for len(p.rest) == 0 {
		if p.cur != nil {
			p.release(p.cur)
			p.cur = nil
		}
		c, ok := <-p.data
		if !ok {
			return 0, p.end
		}
		p.cur, p.rest = c, c.buf[:c.n]
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	p.read += int64(n)
	return n, nil
}

// close ends both goroutines and waits for them.
func (p *pump) close() {
	close(p.quit)
	p.wait.Wait()
}

// digest may be called once after Read returned io.EOF.
func (p *pump) digest() digest.Digest {
	p.wait.Wait()
	return digest.NewDigest(digest.SHA256, p.sum)
}
