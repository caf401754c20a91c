package layertar

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/vbatts/tar-split/tar/storage"
)

const segmentMax = 256 << 10

// recorder is the reader beneath the tar parser. Bytes that pass through it are
// either kept as a raw segment of the split data or, while a file's content
// passes that can be read back from the tree, only summed.
//
// The tar parser of the standard library never reads ahead, so what passes
// while it is asked for the next header is exactly padding and headers.
type recorder struct {
	src     io.Reader
	off     int64
	zeros   int64 // how many zero bytes passed last
	srcErr  error // first error of src that is not io.EOF
	content bool

	split *splitWriter // nil: nothing is kept
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	r.off += int64(n)
	r.countZeros(p[:n])
	if r.split != nil && n > 0 {
		if r.content {
			r.split.crc.write(p[:n])
		} else if serr := r.split.raw(p[:n]); serr != nil {
			r.srcErr = serr
			return n, serr
		}
	}
	if err != nil && err != io.EOF && r.srcErr == nil {
		r.srcErr = err
	}
	return n, err
}

func (r *recorder) countZeros(p []byte) {
	tail := len(bytes.TrimRight(p, "\x00"))
	if tail > 0 {
		r.zeros = 0
	}
	r.zeros += int64(len(p) - tail)
}

// beginContent says that what passes now can be read back from the tree.
func (r *recorder) beginContent() {
	if r.split != nil {
		r.content = true
		r.split.crc.reset()
	}
}

// endContent ends what beginContent began.
func (r *recorder) endContent(name string, size int64) error {
	if r.split == nil {
		return nil
	}
	r.content = false
	return r.split.file(name, size)
}

// splitWriter writes split data: tar-split's JSON lines, compressed with zstd. The
// library's own packer remembers every name, which would cost memory by the
// number of entries; duplicates are refused before they get here.
type splitWriter struct {
	zw   *zstd.Encoder
	enc  *json.Encoder
	seg  []byte
	crc  contentSum
	next int
}

func newSplitWriter(w io.Writer) (*splitWriter, error) {
	zw, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("starting split data: %w", err)
	}
	return &splitWriter{zw: zw, enc: json.NewEncoder(zw)}, nil
}

func (s *splitWriter) raw(p []byte) error {
	s.seg = append(s.seg, p...)
	if len(s.seg) >= segmentMax {
		return s.flush()
	}
	return nil
}

func (s *splitWriter) flush() error {
	if len(s.seg) == 0 {
		return nil
	}
	err := s.entry(storage.Entry{Type: storage.SegmentType, Payload: s.seg})
	s.seg = s.seg[:0]
	return err
}

// file records content that is found in the tree by name.
func (s *splitWriter) file(name string, size int64) error {
	if err := s.flush(); err != nil {
		return err
	}
	e := storage.Entry{Type: storage.FileType, Size: size, Payload: s.crc.sum()}
	e.SetName(name)
	return s.entry(e)
}

func (s *splitWriter) entry(e storage.Entry) error {
	e.Position = s.next
	s.next++
	if err := s.enc.Encode(e); err != nil {
		return fmt.Errorf("writing split data: %w", err)
	}
	return nil
}

func (s *splitWriter) close() error {
	err := s.flush()
	if cerr := s.zw.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("writing split data: %w", cerr)
	}
	return err
}
