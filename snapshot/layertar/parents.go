package layertar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Parents knows of each file of a tree in which directories it has names, by inode numbers. It does not change; 16 bytes
// for each name.
type Parents struct {
	names []parent // sorted
}

// parent says that an inode has a name in a directory.
type parent struct{ inode, dir uint64 }

func (p parent) compare(other parent) int {
	return cmp.Or(cmp.Compare(p.inode, other.inode), cmp.Compare(p.dir, other.dir))
}

// ReadParents reads all directories of a tree that nobody changes, and nothing but the names in them.
func ReadParents(ctx context.Context, root string) (*Parents, error) {
	top, err := openHalf(unix.AT_FDCWD, root, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(top.fd)
	p := &Parents{}
	if err := p.read(ctx, top.fd, top.st.Ino); err != nil {
		return nil, fmt.Errorf("reading the directories of %s: %w", root, err)
	}
	slices.SortFunc(p.names, parent.compare)
	p.names = slices.Clone(slices.Compact(p.names)) // without what it grew by
	return p, nil
}

func (p *Parents) read(ctx context.Context, fd int, dir uint64) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	all, err := readDir(fd)
	if err != nil {
		return err
	}
	for _, d := range all {
		p.names = append(p.names, parent{d.inode, dir})
		if d.kind != unix.DT_DIR && d.kind != unix.DT_UNKNOWN {
			continue
		}
		sub, err := openDir(fd, d.name, unix.O_NOFOLLOW)
		if d.kind == unix.DT_UNKNOWN && (errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)) {
			continue
		}
		if err != nil {
			return err
		}
		err = p.read(ctx, sub.fd, d.inode)
		unix.Close(sub.fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// Len counts the names.
func (p *Parents) Len() int { return len(p.names) }

// of lists an inode's names.
func (p *Parents) of(inode uint64) []parent {
	first, _ := slices.BinarySearchFunc(p.names, parent{inode: inode}, parent.compare)
	n := 0
	for n < len(p.names)-first && p.names[first+n].inode == inode {
		n++
	}
	return p.names[first:][:n]
}

// Lineage makes one of an account of what was written since to a snapshot of the tree.
//
// A directory that is not above anything that was touched has beneath it what it had. For what is above
// a touched file in upper was above it in lower, but where a name was made: and the directory that has got it was touched
// itself.
func (p *Parents) Lineage(a Account) Lineage {
	l := &climbing{Account: a, parents: p, above: map[uint64]bool{}}
	for _, n := range p.names {
		if !a.Untouched(n.inode) {
			l.climb(n.dir)
		}
	}
	return l
}

// climbing is an account with the directories above all that was touched.
type climbing struct {
	Account
	parents *Parents
	above   map[uint64]bool
}

func (l *climbing) Same(inode uint64) bool { return l.Untouched(inode) && !l.above[inode] }

// Reveal adds the directories above a file that was not touched, so that its names are those it had.
func (l *climbing) Reveal(inode uint64) error {
	if err := l.Account.Reveal(inode); err != nil {
		return err
	}
	for _, n := range l.parents.of(inode) {
		l.climb(n.dir)
	}
	return nil
}

// climb adds a directory and those above it.
func (l *climbing) climb(dir uint64) {
	if l.above[dir] {
		return
	}
	l.above[dir] = true
	for _, n := range l.parents.of(dir) {
		l.climb(n.dir)
	}
}
