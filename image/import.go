package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"blockstore.dev/blockstore/snapshot"
)

// ImportOptions describe the image that is made of a root file system.
type ImportOptions struct {
	// Ref is the image's name, "" for none.
	Ref string
	// Changes are Dockerfile instructions that set the config: see NewConfig.
	Changes []string
	// Message goes into the history.
	Message string
	// Created is the image's time; the zero time means now.
	Created time.Time
	// Platform is "os/architecture[/variant]"; "" is this machine's.
	Platform string
	// NoDevices refuses device nodes.
	NoDevices bool
	// Stdin is read when the source is "-".
	Stdin io.Reader
	// SpoolDir and SpoolLimit are as in OpenOptions.
	SpoolDir   string
	SpoolLimit int64
	// Progress, if set, is told of spooling, hashing and unpacking.
	Progress func(Event)
}

// Import makes an image of one layer from the tar of a root file system: a file,
// or standard input for "-"; plain or compressed as in Open. It reads the tar
// twice, because a layer's name is the digest of its contents: a stream is
// spooled for that.
func Import(ctx context.Context, s Loader, source string, o ImportOptions) (_ Loaded, err error) {
	var refs []string
	if o.Ref != "" {
		ref, err := Normalize(o.Ref)
		if err != nil {
			return Loaded{}, err
		}
		refs = []string{ref}
	}
	config := ConfigOptions{Message: o.Message, Changes: o.Changes, Created: o.Created, Platform: o.Platform}
	if config.Created.IsZero() {
		config.Created = time.Now()
	}
	// A mistake in the options is told before minutes of reading.
	if _, err := NewConfig(nil, snapshot.Info{DiffID: digest.FromString("")}, config); err != nil {
		return Loaded{}, err
	}
	single, err := openSingle(ctx, source, o)
	if err != nil {
		return Loaded{}, blame(err, source, "")
	}
	defer func() { err = errors.Join(err, single.Close()) }()
	layer, err := single.layer(ctx, o.Progress)
	if err != nil {
		return Loaded{}, blame(err, source, "")
	}
	data, err := NewConfig(nil, snapshot.Info{DiffID: layer.DiffID}, config)
	if err != nil {
		return Loaded{}, err
	}
	img := &ArchiveImage{ID: digest.FromBytes(data), Config: data, Refs: refs, Created: config.Created, Layers: []ArchiveLayer{layer}}
	a := &Archive{source: source, members: single}
	return loadImage(ctx, s, img, loadTo{archive: a, options: LoadOptions{NoDevices: o.NoDevices, Progress: o.Progress}, refs: refs})
}

// singleMember is a file that is one layer, not an archive of them.
type singleMember struct {
	file *os.File
	size int64
	keep bool
}

func (s singleMember) open(string) (*member, error) {
	return &member{ReaderAt: s.file, size: s.size}, nil
}

func (s singleMember) names() []string { return nil }

func (s singleMember) Close() error {
	if s.keep {
		return nil
	}
	return s.file.Close()
}

// openSingle opens a tar so that it can be read twice.
func openSingle(ctx context.Context, source string, o ImportOptions) (s singleMember, err error) {
	stream := o.Stdin
	if source != "-" {
		f, err := os.Open(source)
		if err != nil {
			return s, err
		}
		stream = f
	}
	if stream == nil {
		return s, fmt.Errorf("%w: there is no standard input to read the tar from", snapshot.ErrInvalid)
	}
	if f, ok := stream.(*os.File); ok {
		st, err := f.Stat()
		if err != nil {
			return s, err
		}
		if at, serr := f.Seek(0, io.SeekCurrent); st.Mode().IsRegular() && serr == nil && at == 0 {
			return singleMember{file: f, size: st.Size(), keep: source == "-"}, nil
		}
		if source != "-" {
			defer func() { err = errors.Join(err, f.Close()) }()
		}
	}
	e := Event{Stage: StageSpool}
	s.file, s.size, err = spooler{o.SpoolDir, o.SpoolLimit}.spool(ctx, stream, func(n int64) {
		if e.Done = n; o.Progress != nil {
			o.Progress(e)
		}
	})
	if err == nil && o.Progress != nil {
		e.Finished = true
		o.Progress(e)
	}
	return s, err
}

// layer computes the DiffID, and refuses what is no tar.
func (s singleMember) layer(ctx context.Context, progress func(Event)) (l ArchiveLayer, err error) {
	l.Size = s.size
	if err := s.checkTar(l); err != nil {
		return l, err
	}
	e := Event{Stage: StageHash, Layers: 1, Total: s.size}
	report := func(n int64) {
		if e.Done = n; progress != nil {
			progress(e)
		}
	}
	if l.DiffID, err = hashLayer(ctx, s, l, report); err != nil {
		return l, err
	}
	e.DiffID, e.Finished = l.DiffID, true
	report(s.size)
	return l, nil
}

// checkTar looks at the first block: a header, or the zeros of an empty tar.
func (s singleMember) checkTar(l ArchiveLayer) (err error) {
	var read atomic.Int64
	r, err := openLayer(s, l, &read)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	block := make([]byte, tarBlock)
	if _, err := io.ReadFull(r, block); err != nil {
		if errors.Is(err, ErrArchive) {
			return err
		}
		return &Error{Kind: ErrMalformed, Text: "not a tar archive", Err: err}
	}
	if !isTarHeader(block) && [tarBlock]byte(block) != [tarBlock]byte{} {
		return bad(ErrMalformed, "", "not a tar archive")
	}
	return nil
}
