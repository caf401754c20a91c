package layertar

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

const (
	// paddingMax is how much may follow a tar's trailer: tars are padded to their
	// blocking factor, 10 KiB as a rule, a few MiB for tapes.
	paddingMax = 64 << 20
	// fileMax is the largest file that is believed: ext4's limit with 4 KiB blocks.
	fileMax  = 16 << 40
	tarBlock = 512
)

// applier is one run of [Apply].
type applier struct {
	ctx   context.Context
	opts  ApplyOptions
	dirs  *dirs
	seen  *seen
	rec   *recorder
	tar   *tar.Reader
	buf   []byte
	done  Applied
	used  int64 // content so far, against MaxBytes
	aside bool  // aufs' link targets were unpacked and have to go

	umask    uint32
	uid, gid int // of new files
}

func newApplier(ctx context.Context, root string, opts ApplyOptions) (*applier, error) {
	a := &applier{
		ctx: ctx, opts: opts, seen: newSeen(), rec: &recorder{},
		buf: make([]byte, contentBuffer), umask: readUmask(), uid: os.Geteuid(), gid: os.Getegid(),
	}
	if opts.Split != nil {
		split, err := newSplitWriter(opts.Split)
		if err != nil {
			return nil, err
		}
		a.rec.split = split
	}
	var err error
	if a.dirs, err = openDirs(root, a.seen); err != nil {
		return nil, err
	}
	a.dirs.missing = a.missingParent
	return a, nil
}

// readUmask reads the umask, which only setting would return otherwise. Where
// it is not known every mode is set explicitly.
func readUmask() uint32 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o777
	}
	_, rest, _ := strings.Cut(string(status), "\nUmask:\t")
	text, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(text, 8, 32)
	if err != nil {
		return 0o777
	}
	return uint32(mask)
}

func (a *applier) close() error {
	err := a.dirs.close()
	if a.rec.split != nil {
		if serr := a.rec.split.close(); err == nil {
			err = serr
		}
	}
	return err
}

// run reads all entries, the trailer and the padding.
func (a *applier) run(src io.Reader) (Applied, error) {
	a.rec.src = src
	a.tar = tar.NewReader(a.rec)
	last := ""
	for {
		if a.ctx.Err() != nil {
			return a.done, context.Cause(a.ctx)
		}
		before := a.rec.off
		hdr, err := a.tar.Next()
		if err == io.EOF {
			// The parser takes the end after an extended header for a plain one, too.
			if min(a.rec.off-before, a.rec.zeros) < tarBlock {
				return a.done, a.fail(last, reason(ErrMalformed, "the archive ends after this entry, without a trailer"))
			}
			break
		}
		if err != nil && hdr == nil {
			return a.done, a.fail(last, a.readError(err, "reading the header after this entry"))
		}
		last = hdr.Name
		if err := a.entry(hdr); err != nil {
			return a.done, a.fail(last, err)
		}
		// What is left of the content is not in the tree, so its bytes are kept.
		if _, err := io.Copy(io.Discard, a.tar); err != nil {
			return a.done, a.fail(last, a.readError(err, "reading content"))
		}
	}
	if a.aside {
		if err := a.remove(a.dirs.root, aufsLinks); err != nil {
			return a.done, err
		}
	}
	return a.done, a.padding()
}

// padding reads what follows the trailer; it is part of the DiffID.
func (a *applier) padding() error {
	n, err := io.Copy(io.Discard, io.LimitReader(a.rec, paddingMax+1))
	if err != nil {
		return a.readError(err, "reading padding")
	}
	if n > paddingMax {
		return fmt.Errorf("more than %d bytes after the end of the archive: %w", paddingMax, ErrTooLarge)
	}
	return nil
}

// readError tells an error of the stream from one of the archive that it holds.
func (a *applier) readError(err error, what string) error {
	switch {
	case a.rec.srcErr != nil:
		return fmt.Errorf("reading the archive: %w", a.rec.srcErr)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return reason(ErrMalformed, "the archive ends early")
	case errors.Is(err, tar.ErrHeader):
		return reason(ErrMalformed, what+": not a tar header")
	}
	return reason(fmt.Errorf("%w: %v", ErrMalformed, err), what)
}

// fail names the entry in an error.
func (a *applier) fail(name string, err error) error {
	var why *reasonError
	if !errors.As(err, &why) {
		if a.rec.srcErr != nil || a.ctx.Err() != nil {
			return err
		}
		return &EntryError{Name: name, Err: err}
	}
	text := why.reason
	for {
		var inner *reasonError
		if !errors.As(why.err, &inner) {
			return &EntryError{Name: name, Reason: text, Err: why.err}
		}
		text, why = text+": "+inner.reason, inner
	}
}

// entry handles one header.
func (a *applier) entry(hdr *tar.Header) error {
	a.dirs.pin = nil
	if err := a.count(hdr); err != nil {
		return err
	}
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil // git archive writes the commit there
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return err
	}
	kind, target := notWhiteout, ""
	switch {
	case a.opts.Whiteouts == WhiteoutsRefused && holdsWhiteout(name):
		return reason(ErrWhiteout, "whiteouts are for layers, this is a whole file system")
	case a.opts.Whiteouts == WhiteoutsObeyed:
		if kind, target, err = classify(name); err != nil {
			return err
		}
	}
	switch kind {
	case whiteoutSkip:
		return nil
	case whiteoutAside:
		if hdr.Typeflag != tar.TypeReg {
			return nil
		}
		a.aside = true
	}
	if name == "." {
		return a.rootEntry(hdr)
	}
	d, err := a.dirs.get(path.Dir(name), true)
	if err != nil {
		return err
	}
	a.dirs.pin = d
	switch kind {
	case whiteoutPath:
		return a.whiteout(d, target)
	case whiteoutOpaque:
		return a.opaque(d)
	}
	return a.create(d, name, hdr, kind == whiteoutAside)
}

// count keeps the sums and refuses sizes that are too large.
func (a *applier) count(hdr *tar.Header) error {
	if hdr.Size < 0 || hdr.Size > math.MaxInt64-a.done.Size {
		return reason(ErrMalformed, fmt.Sprintf("impossible size %d", hdr.Size))
	}
	a.done.Entries++
	a.done.Size += hdr.Size
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
	default:
		return nil
	}
	if hdr.Size > fileMax {
		return reason(ErrTooLarge, fmt.Sprintf("a file of %d bytes", hdr.Size))
	}
	if a.opts.MaxBytes > 0 && hdr.Size > a.opts.MaxBytes-a.used {
		return reason(ErrTooLarge, fmt.Sprintf("content of more than %d bytes", a.opts.MaxBytes))
	}
	a.used += hdr.Size
	return nil
}

// create makes the file that an entry describes, in d.
func (a *applier) create(d *dir, name string, hdr *tar.Header, raw bool) error {
	f := file{dir: d, base: path.Base(name), hdr: hdr}
	canonical := d.join(f.base)
	flags := a.seen.get(canonical)
	isDir := hdr.Typeflag == tar.TypeDir
	if flags&seenFile != 0 || (!isDir && flags != 0) {
		return reason(ErrDuplicate, "this layer has written "+quote(canonical)+" before")
	}
	if err := a.prepare(&f); err != nil {
		return err
	}
	if isDir {
		a.seen.add(canonical, seenDir)
		return a.makeDir(f, flags)
	}
	a.seen.add(canonical, seenFile)
	d.dirty = true
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return a.makeFile(f, raw)
	case tar.TypeSymlink:
		return a.makeSymlink(f, name)
	case tar.TypeLink:
		return a.makeLink(f)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return a.makeNode(f)
	}
	return reason(ErrMalformed, fmt.Sprintf("entry of unknown type %q", hdr.Typeflag))
}
