package image

import (
	"context"
	"errors"
	"io"
)

const (
	// aheadBuffers of up to aheadBuffer bytes each are how far a layer is decompressed
	// before somebody wants it. Two layers are under way at most.
	aheadBuffers = 8
	aheadBuffer  = 1 << 20
	// firstBuffer is the first one's size: most layers of most images are small.
	firstBuffer = 64 << 10
)

// ahead reads a stream in a goroutine of its own, a bounded distance ahead of its
// reader. One goroutine reads it; Close waits for the other.
type ahead struct {
	cancel context.CancelFunc
	done   chan struct{}
	full   chan chunk
	free   chan []byte
	now    chunk // what is being read
	rest   []byte
	err    error
}

// chunk is a buffer with data, and the error that came after them.
type chunk struct {
	buf []byte
	err error
}

// newAhead opens a stream in its goroutine and begins to read it.
func newAhead(ctx context.Context, open func() (io.ReadCloser, error)) *ahead {
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{
		cancel: cancel, done: make(chan struct{}),
		full: make(chan chunk, aheadBuffers), free: make(chan []byte, aheadBuffers),
	}
	for range aheadBuffers {
		a.free <- nil // made when it is first used: small layers need few
	}
	go func() {
		defer close(a.done)
		defer close(a.full)
		a.run(ctx, open)
	}()
	return a
}

func (a *ahead) run(ctx context.Context, open func() (io.ReadCloser, error)) {
	r, err := open()
	if err != nil {
		a.full <- chunk{err: err}
		return
	}
	size := firstBuffer
	for err == nil {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-ctx.Done():
			_ = r.Close() // nobody reads the stream any more
			return
		}
		if buf == nil {
			buf = make([]byte, size)
			size = min(2*size, aheadBuffer)
		}
		var n int
		n, err = fill(ctx, r, buf[:cap(buf)])
		c := chunk{buf: buf[:n], err: err}
		if err != nil {
			if cerr := r.Close(); cerr != nil && errors.Is(err, io.EOF) {
				c.err = cerr
			}
		}
		a.full <- c // has room for every buffer
	}
}

// fill reads until the buffer is full, or an error.
func fill(ctx context.Context, r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		var got int
		got, err = r.Read(buf[n:])
		n += got
	}
	return n, err
}

// Read gives what has been read ahead, and waits for more if there is nothing.
func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.now.buf != nil {
			a.free <- a.now.buf
			a.now.buf = nil
		}
		c, ok := <-a.full
		if !ok {
			c.err = context.Canceled
		}
		a.now, a.rest, a.err = c, c.buf, c.err
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close stops reading ahead and waits until the stream is closed. It may be
// called more than once.
func (a *ahead) Close() error {
	a.cancel()
	<-a.done
	return nil
}
