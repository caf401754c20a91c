package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"blockstore.dev/blockstore/snapshot"
)

// layer writes the blob of an image's layer i, unless the archive has it.
func (w *saving) layer(ctx context.Context, img *savedImage, i int) (ocispec.Descriptor, error) {
	info := img.infos[i]
	e := Event{Stage: StageWrite, Image: img.label(), DiffID: info.DiffID, Layer: i, Layers: len(img.infos), Total: info.TarSize}
	d, known := w.layers[info.DiffID]
	if known {
		e.Known = true
	} else {
		var err error
		if d, err = w.newLayer(ctx, info, img.mtime(), e); err != nil {
			return d, fmt.Errorf("layer %s: %w", info.DiffID, err)
		}
		w.layers[info.DiffID] = d
	}
	e.Done, e.Finished = info.TarSize, true
	w.report(e)
	return d, nil
}

func (w *saving) report(e Event) {
	if w.options.Progress != nil {
		w.options.Progress(e)
	}
}

// newLayer writes a layer straight into the archive where its length and digest
// are known beforehand, or else through a temporary file.
func (w *saving) newLayer(ctx context.Context, info snapshot.Info, at time.Time, e Event) (ocispec.Descriptor, error) {
	write := func(to io.Writer) error {
		return w.store.WriteLayer(ctx, info.Name, &reportingWriter{w: to, report: w.report, e: e})
	}
	if w.options.Compression == Plain && info.TarSize > 0 {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: info.DiffID, Size: info.TarSize}
		return d, w.blob(d, at, write)
	}
	f, err := tempFile(w.options.SpoolDir)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d, err := compressInto(f, w.options.Compression, write)
	if err == nil {
		err = w.blob(d, at, func(to io.Writer) error {
			_, err := io.CopyBuffer(onlyWriter{to}, &onlyReader{io.NewSectionReader(f, 0, d.Size)}, make([]byte, copyBuffer))
			return err
		})
	}
	return d, errors.Join(err, f.Close())
}

// onlyWriter and onlyReader hide the methods by which io.CopyBuffer would do
// without the buffer, in pieces of 32 KiB.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// compressInto writes a layer into f and describes the blob that it is.
func compressInto(f *os.File, c Compression, write func(io.Writer) error) (ocispec.Descriptor, error) {
	digester := digest.SHA256.Digester()
	size := &sizeWriter{w: io.MultiWriter(f, digester.Hash())}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer}
	z := io.WriteCloser(nopCloser{size})
	switch c {
	case Gzip:
		d.MediaType = ocispec.MediaTypeImageLayerGzip
		z = gzip.NewWriter(size) // no name and no time in its header: the same layer gives the same blob
	case Zstd:
		d.MediaType = ocispec.MediaTypeImageLayerZstd
		var err error
		if z, err = zstd.NewWriter(size, zstd.WithEncoderConcurrency(1)); err != nil {
			return d, err
		}
	}
	if err := write(z); err != nil {
		return d, errors.Join(err, z.Close())
	}
	if err := z.Close(); err != nil {
		return d, err
	}
	d.Digest, d.Size = digester.Digest(), size.n
	return d, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// sizeWriter counts.
type sizeWriter struct {
	w io.Writer
	n int64
}

func (s *sizeWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += int64(n)
	return n, err
}

// reportingWriter tells of progress, a few times per MiB at most.
type reportingWriter struct {
	w      io.Writer
	report func(Event)
	e      Event
	told   int64
}

func (r *reportingWriter) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	r.e.Done += int64(n)
	if r.e.Done-r.told >= 256<<10 {
		r.told = r.e.Done
		r.report(r.e)
	}
	return n, err
}
