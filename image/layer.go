package image

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"blockstore.dev/blockstore/snapshot"
)

// maxHashed bounds the uncompressed length of a layer that has no DiffID yet. No
// store limits what is only read, so this keeps a small bomb from being read for
// days.
const maxHashed = 1 << 40

// layerReader reads a layer's uncompressed tar. At the end of it, the blob has
// been read whole and compared with its digest; the end is not told before.
type layerReader struct {
	layer  ArchiveLayer
	member *member
	count  *countingReader
	verify *verifyReader // nil if the blob's digest is not known
	tar    *unpacked
	err    error
}

// openLayer opens a layer for reading; read counts bytes of the blob.
func openLayer(ms members, l ArchiveLayer, read *atomic.Int64) (*layerReader, error) {
	m, err := ms.open(l.Member)
	if err != nil {
		return nil, err
	}
	r := &layerReader{layer: l, member: m, count: &countingReader{r: m.reader(), n: read}}
	var blob io.Reader = r.count
	if l.blob != "" {
		r.verify = &verifyReader{r: blob, digester: l.blob.Algorithm().Digester(), want: l.blob}
		blob = r.verify
	}
	if r.tar, err = unpack(blob); err != nil {
		return nil, errors.Join(r.damage(err), m.Close())
	}
	return r, nil
}

func (r *layerReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.tar.Read(p)
	if err == nil {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		r.err = r.end()
	} else {
		r.err = r.damage(err)
	}
	return n, r.err
}

// end reads what is left of the blob behind the compressed stream, and compares.
func (r *layerReader) end() error {
	rest := io.Reader(r.count)
	if r.verify != nil {
		rest = r.verify
	}
	n, err := io.Copy(io.Discard, rest)
	if err != nil {
		return r.damage(err)
	}
	if n > 0 && r.tar.packing != packedNot {
		return bad(ErrMalformed, r.layer.Member, "%d bytes follow the compressed layer", n)
	}
	if r.verify != nil {
		if err := r.verify.check(); err != nil {
			return blame(err, "", r.layer.Member)
		}
	}
	return io.EOF
}

// damage says what is wrong with a layer that cannot be decompressed. Where the
// blob's digest is known and wrong, that is the reason.
func (r *layerReader) damage(err error) error {
	err = damaged(err, r.layer.Member, "damaged layer")
	if r.verify == nil || !errors.Is(err, ErrMalformed) {
		return blame(err, "", r.layer.Member)
	}
	if _, cerr := io.Copy(io.Discard, r.verify); cerr == nil {
		if cerr := r.verify.check(); cerr != nil {
			err = cerr
		}
	}
	return blame(err, "", r.layer.Member)
}

func (r *layerReader) Close() error {
	return errors.Join(r.tar.Close(), r.member.Close())
}

// countingReader counts for somebody who looks on from another goroutine.
type countingReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// verifyReader computes the digest of what goes by.
type verifyReader struct {
	r        io.Reader
	digester digest.Digester
	want     digest.Digest
}

func (v *verifyReader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	_, _ = v.digester.Hash().Write(p[:n]) // a hash never fails (hash.Hash)
	return n, err
}

// check compares, once everything has been read.
func (v *verifyReader) check() error {
	if got := v.digester.Digest(); got != v.want {
		return bad(ErrDigest, "", "has the digest %s, not %s", got, v.want)
	}
	return nil
}

// hashLayer computes the DiffID of a layer.
func hashLayer(ctx context.Context, ms members, l ArchiveLayer, progress func(read int64)) (_ digest.Digest, err error) {
	var read atomic.Int64
	r, err := openLayer(ms, l, &read)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	d := digest.SHA256.Digester()
	_, err = copyBounded(ctx, d.Hash(), r, maxHashed, func(int64) { progress(read.Load()) })
	if errors.Is(err, snapshot.ErrNoSpace) {
		return "", bad(ErrUnsupported, l.Member, "layer of more than %d bytes", int64(maxHashed))
	}
	return d.Digest(), err
}
