package layertar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const lostFound = "lost+found"

// ClockTick is more than the coarsest clock of any kernel in use (HZ=100) with some
// room: a change made after an instant is never stamped earlier than this before it.
const ClockTick = 50 * time.Millisecond

// comparer is one comparison of two trees. It never follows a symbolic link and knows
// directories by descriptors only.
type comparer struct {
	ctx     context.Context
	opts    CompareOptions
	records []record
	links   links
	bufs    [2][]byte
}

// pair is one path in both trees; fd is -1 and there false where it is missing.
type pair struct {
	path         string
	lower, upper half
	alike        bool // a directory that has the same names and metadata, by its lineage
}

type half struct {
	fd    int // of the directory itself while it is walked
	there bool
	st    unix.Stat_t
}

// alike makes the pair of a directory that is itself the same on both sides, unseen.
func alike(path string, inode uint64) pair {
	h := half{fd: -1, there: true, st: unix.Stat_t{Ino: inode, Mode: unix.S_IFDIR}}
	return pair{path: path, lower: h, upper: h, alike: true}
}

// compare finds all differences, in the order of a tar.
func compare(ctx context.Context, lower, upper string, opts CompareOptions) ([]record, error) {
	c := &comparer{ctx: ctx, opts: opts, links: links{}}
	root := pair{path: "."}
	root.lower.fd = -1
	var err error
	if lower != "" {
		if root.lower, err = openHalf(unix.AT_FDCWD, lower, 0); err != nil {
			return nil, err
		}
		defer unix.Close(root.lower.fd)
	}
	if root.upper, err = openHalf(unix.AT_FDCWD, upper, 0); err != nil {
		return nil, err
	}
	defer unix.Close(root.upper.fd)
	root.alike = root.lower.there && c.alike(root.lower.st.Ino, root.upper.st.Ino)

	for again := true; again; {
		if err := c.walkAll(root); err != nil {
			return nil, err
		}
		if again, err = c.reveal(); err != nil {
			return nil, err
		}
	}
	c.addLinks()
	slices.SortStableFunc(c.records, compareRecords)
	return c.records, nil
}

// walkAll compares everything, from the start.
func (c *comparer) walkAll(root pair) error {
	c.links = links{}
	c.records = append(c.records[:0], record{path: ".", kind: Modify, out: outEntry})
	changed, err := c.rootChanged(root)
	if err != nil {
		return err
	}
	if !root.lower.there || !c.same(root.lower.st.Ino, root.upper.st.Ino) {
		if err := c.walk(root); err != nil {
			return err
		}
	}
	if !changed {
		c.records = c.records[1:]
	}
	return nil
}

// same says whether an inode need not be looked at, nor what is beneath it.
func (c *comparer) same(lower, upper uint64) bool {
	return c.tracked(lower, upper) && c.opts.Lineage.Same(upper)
}

// alike says whether an inode itself need not be looked at.
func (c *comparer) alike(lower, upper uint64) bool {
	return c.tracked(lower, upper) && c.opts.Lineage.Untouched(upper)
}

func (c *comparer) tracked(lower, upper uint64) bool {
	return lower == upper && c.opts.Snapshots && c.opts.Lineage != nil
}

// passed says whether a name that both have need not be looked at.
func (c *comparer) passed(lower, upper dirent) bool {
	if lower.kind != upper.kind {
		return false
	}
	mayBeDir := upper.kind == unix.DT_DIR || upper.kind == unix.DT_UNKNOWN
	return c.same(lower.inode, upper.inode) || !mayBeDir && c.alike(lower.inode, upper.inode)
}

func (c *comparer) rootChanged(root pair) (bool, error) {
	if !root.lower.there {
		return true, nil
	}
	return c.metadataDiffer(root, root.lower.fd, root.upper.fd, ".")
}

// openHalf opens a directory; flags is O_NOFOLLOW within a tree.
func openHalf(dirfd int, base string, flags int) (half, error) {
	h, err := openDir(dirfd, base, flags)
	if err != nil {
		return h, err
	}
	if err := unix.Fstat(h.fd, &h.st); err != nil {
		unix.Close(h.fd)
		return half{fd: -1}, fmt.Errorf("inspecting directory %q: %w", base, err)
	}
	return h, nil
}

// openDir opens one of which nothing is to be known but its names.
func openDir(dirfd int, base string, flags int) (half, error) {
	flags |= unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	fd, err := unix.Openat(dirfd, base, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // only the owner and root may leave the access time alone
		fd, err = unix.Openat(dirfd, base, flags, 0)
	}
	if err != nil {
		return half{fd: -1}, fmt.Errorf("opening directory %q: %w", base, err)
	}
	return half{fd: fd, there: true}, nil
}

// walk compares what is in two directories, of which at least upper is there.
func (c *comparer) walk(dir pair) error {
	if err := c.ctx.Err(); err != nil {
		return context.Cause(c.ctx)
	}
	lower, upper, err := c.names(dir)
	if err != nil {
		return err
	}
	pairs, same, err := c.join(dir, lower, upper)
	if err != nil {
		return err
	}
	c.deletions(dir, pairs, same)
	for _, p := range pairs {
		if err := c.visitNow(dir, p); err != nil {
			return err
		}
	}
	return nil
}

// names lists both directories, sorted. A directory that has the same change time in both
// snapshots has the same names.
func (c *comparer) names(dir pair) (lower, upper []dirent, err error) {
	if upper, err = readDir(dir.upper.fd); err != nil && !errors.Is(err, unix.ENOENT) { // it was removed since it was opened: nothing is in it
		return nil, nil, fmt.Errorf("reading upper directory %q: %w", dir.path, err)
	}
	slices.SortFunc(upper, dirent.compare)
	upper = slices.CompactFunc(upper, func(a, b dirent) bool { return a.name == b.name }) // made anew while it was read
	switch {
	case !dir.lower.there:
	case c.sameNames(dir):
		lower = upper
	default:
		if lower, err = readDir(dir.lower.fd); err != nil {
			return nil, nil, fmt.Errorf("reading lower directory %q: %w", dir.path, err)
		}
		slices.SortFunc(lower, dirent.compare)
	}
	return lower, upper, nil
}

// sameNames says that a directory has the same names in both trees, so that they are read once.
func (c *comparer) sameNames(dir pair) bool { return dir.alike || c.untouched(dir) }

// below is the path of a name in it.
func (p pair) below(name string) string {
	if p.path == "." {
		return name
	}
	return p.path + "/" + name
}

// untouched tells whether a path is the same inode in the same state in two snapshots of one lineage.
// Where an account tells exactly what is the same, all else is compared in full.
func (c *comparer) untouched(p pair) bool {
	l, u := &p.lower.st, &p.upper.st
	if !c.opts.Snapshots || c.opts.Lineage != nil && c.opts.Lineage.Exact() || l.Ino != u.Ino || l.Ctim != u.Ctim ||
		l.Mode != u.Mode || l.Size != u.Size || l.Mtim != u.Mtim {
		return false
	}
	return c.opts.Since.IsZero() || time.Unix(u.Ctim.Unix()).Before(c.opts.Since.Add(-ClockTick))
}

// join merges two sorted lists of names and inspects each, but for those that are
// known to be the same: of them it counts what a layer holds.
func (c *comparer) join(dir pair, lower, upper []dirent) (pairs []pair, same int, err error) {
	for len(lower) > 0 || len(upper) > 0 {
		inLower := len(lower) > 0 && (len(upper) == 0 || lower[0].name <= upper[0].name)
		inUpper := len(upper) > 0 && (len(lower) == 0 || upper[0].name <= lower[0].name)
		if inLower && inUpper && c.passed(lower[0], upper[0]) {
			if lower[0].kind != unix.DT_SOCK {
				same++
			}
			lower, upper = lower[1:], upper[1:]
			continue
		}
		if inLower && inUpper && lower[0].kind == unix.DT_DIR && upper[0].kind == unix.DT_DIR && c.alike(lower[0].inode, upper[0].inode) {
			pairs = append(pairs, alike(dir.below(upper[0].name), upper[0].inode))
			lower, upper = lower[1:], upper[1:]
			continue
		}
		var name string
		p := pair{}
		if inLower {
			name, lower = lower[0].name, lower[1:]
			p.lower, err = inspect(dir.lower.fd, name)
			if errors.Is(err, ErrChanged) && c.sameNames(dir) { // upper has got the name since it was said to be the same
				err = nil
			}
			if err != nil {
				return nil, 0, err
			}
		}
		if inUpper {
			name, upper = upper[0].name, upper[1:]
			if p.upper, err = inspect(dir.upper.fd, name); err != nil && !errors.Is(err, ErrChanged) {
				return nil, 0, err
			}
		}
		p.path = dir.below(name)
		if dir.path == "." && name == lostFound && emptyDir(dir.lower.fd, p.lower) && emptyDir(dir.upper.fd, p.upper) {
			continue // mkfs made it, not a layer
		}
		if c.opts.Looked != nil {
			c.opts.Looked(p.path)
		}
		if p.lower.there || p.upper.there {
			pairs = append(pairs, p)
		}
	}
	return pairs, same, nil
}

// inspect reads the metadata of a name.
func inspect(dirfd int, name string) (half, error) {
	h := half{fd: -1}
	if err := unix.Fstatat(dirfd, name, &h.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, unix.ENOENT) {
			err = ErrChanged // it was listed a moment ago
		}
		return h, fmt.Errorf("inspecting %q: %w", name, err)
	}
	h.there = true
	return h, nil
}

func (h *half) kind() uint32 { return h.st.Mode & unix.S_IFMT }
func (h *half) isDir() bool  { return h.there && h.kind() == unix.S_IFDIR }

// isSocket: no tar holds it, so that no layer does.
func (h *half) isSocket() bool { return h.there && h.kind() == unix.S_IFSOCK }

// emptyDir is true of an empty lost+found and of a missing one.
func emptyDir(dirfd int, h half) bool {
	if !h.there {
		return true
	}
	if !h.isDir() {
		return false
	}
	d, err := openHalf(dirfd, lostFound, unix.O_NOFOLLOW)
	if err != nil {
		return false
	}
	defer unix.Close(d.fd)
	names, err := readNames(d.fd)
	return err == nil && len(names) == 0
}

// deletions records what upper lacks: one opaque marker where nothing of lower is left,
// else a whiteout for each name. kept are names that are not among the pairs.
func (c *comparer) deletions(dir pair, pairs []pair, kept int) {
	gone := 0
	for i := range pairs {
		switch {
		case !pairs[i].lower.there || pairs[i].lower.isSocket():
		case pairs[i].upper.there && !pairs[i].upper.isSocket():
			kept++
		default:
			gone++
		}
	}
	out := outWhiteout
	if gone > 1 && kept == 0 && dir.path != "." {
		out = outNothing
		c.records = append(c.records, record{path: dir.path + "/" + opaqueMarker, out: outOpaque})
	}
	for i := range pairs {
		switch {
		case !pairs[i].upper.there && pairs[i].lower.isSocket():
			c.records = append(c.records, record{path: pairs[i].path, kind: Delete, out: outNothing, listed: true})
		case !pairs[i].upper.there:
			c.records = append(c.records, record{path: pairs[i].path, kind: Delete, out: out, listed: true})
		case pairs[i].upper.isSocket() && !pairs[i].lower.isSocket(): // in the layer what was there is deleted
			r := record{path: pairs[i].path, kind: Add, out: outNothing, listed: true}
			if pairs[i].lower.there {
				r.kind, r.out = Modify, out
			}
			c.records = append(c.records, r)
		}
	}
}

// visit compares one path that upper has.
func (c *comparer) visit(parent, p pair) error {
	if p.upper.isDir() {
		return c.visitDir(parent, p)
	}
	r := record{path: p.path, kind: Add, out: outEntry, listed: true}
	r.measure(&p.upper)
	if p.lower.there {
		r.kind = Modify
		differ, err := c.filesDiffer(parent, p)
		if err != nil {
			return fmt.Errorf("comparing %q: %w", p.path, err)
		}
		r.listed = differ
	}
	c.links.note(p, !r.listed)
	if r.listed {
		c.records = append(c.records, r)
	}
	return nil
}

// visitSocket compares a socket with one that was there; deletions has recorded those
// that are new.
func (c *comparer) visitSocket(parent, p pair) error {
	if !p.lower.isSocket() {
		return nil
	}
	differ, err := c.filesDiffer(parent, p)
	if err != nil {
		return fmt.Errorf("comparing %q: %w", p.path, err)
	}
	if differ {
		c.records = append(c.records, record{path: p.path, kind: Modify, out: outNothing, listed: true})
	}
	return nil
}

// visitDir records a directory before what is in it, and takes that back if
// nothing was found.
func (c *comparer) visitDir(parent, p pair) error {
	base := baseName(p.path)
	r := record{path: p.path, kind: Add, out: outEntry, listed: true}
	changed := true
	sub := pair{path: p.path, lower: half{fd: -1}, alike: p.alike}
	if p.lower.there {
		r.kind = Modify
	}
	open := openHalf
	if p.alike {
		open = openDir
	}
	var err error
	if p.lower.isDir() {
		if p.alike {
			changed = false
		} else if changed, err = c.metadataDiffer(p, parent.lower.fd, parent.upper.fd, base); err != nil {
			return fmt.Errorf("comparing %q: %w", p.path, err)
		}
		if sub.lower, err = open(parent.lower.fd, base, unix.O_NOFOLLOW); err != nil {
			return err
		}
		defer unix.Close(sub.lower.fd)
	}
	if sub.upper, err = open(parent.upper.fd, base, unix.O_NOFOLLOW); err != nil {
		return err
	}
	defer unix.Close(sub.upper.fd)

	at := len(c.records)
	c.records = append(c.records, r)
	if err := c.walk(sub); err != nil {
		return belowError{err}
	}
	if !changed && len(c.records) == at+1 {
		c.records = c.records[:at]
	}
	return nil
}
