package layertar

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// inode is a file's identity in one tree; nested subvolumes have devices of their own.
type inode struct{ dev, ino uint64 }

// linkName is one name of an inode that has several names in upper or had in lower.
type linkName struct {
	path string
	same bool  // neither content nor metadata of this path changed
	was  inode // in lower, if same
	// total is how many names the inode has in upper.
	total int
}

// links collects such inodes of upper.
type links map[inode][]linkName

func (l links) note(p pair, same bool) {
	linked := p.upper.st.Nlink > 1 || (p.lower.there && !p.lower.isDir() && p.lower.st.Nlink > 1)
	if !linked {
		return
	}
	n := linkName{path: p.path, same: same, total: int(p.upper.st.Nlink)}
	if same {
		n.was = inode{p.lower.st.Dev, p.lower.st.Ino}
	}
	id := inode{p.upper.st.Dev, p.upper.st.Ino}
	l[id] = append(l[id], n)
}

// reveal makes the next walk look at names that this one has not seen and that have to
// be known: those of an inode that was not the same under each name that was seen. It
// says whether there are any.
//
// Where it was the same under all of these, it is so under the others: an inode that
// got or lost a name anywhere is not passed over.
func (c *comparer) reveal() (again bool, err error) {
	if c.opts.Lineage == nil {
		return false, nil
	}
	for id, names := range c.links {
		if len(names) >= names[0].total || wholeAs(names, id.ino) {
			continue
		}
		if !c.opts.Lineage.Untouched(id.ino) {
			continue // its names were looked for already: others are outside the tree, or were made just now
		}
		if err := c.opts.Lineage.Reveal(id.ino); err != nil {
			return false, err
		}
		again = true
	}
	return again, nil
}

// wholeAs says whether all names were, and are, one inode's of lower.
func wholeAs(names []linkName, ino uint64) bool {
	for _, n := range names {
		if !n.same || n.was.ino != ino {
			return false
		}
	}
	return true
}

// group is all that upper's inode is called.
type group struct {
	names []linkName
	heir  inode // the inode of lower that it goes on with, if whole
	whole bool  // no name changed, and all were one inode before
}

// addLinks records the names that are the same themselves but have to be in the layer
// since the inode's set of names differs: all names of such an inode, so that the
// layer says it by itself.
//
// Of the inodes of upper that were one in lower, the first that kept all it has goes on
// with it and the others are written.
func (c *comparer) addLinks() {
	groups := c.links.groups()
	taken := map[inode]int{}
	for i, g := range groups {
		if _, other := taken[g.heir]; g.whole && !other {
			taken[g.heir] = i
		} else {
			groups[i].whole = false
		}
	}
	added := map[string]bool{} // to whether it is listed
	for i, g := range groups {
		if g.whole {
			continue
		}
		for _, n := range g.names {
			if !n.same {
				continue // recorded already
			}
			heir, other := taken[n.was]
			if !other {
				taken[n.was], heir = i, i
			}
			c.records = append(c.records, record{path: n.path, kind: Modify, out: outEntry, listed: heir != i})
			added[n.path] = heir != i
		}
	}
	c.addParents(added)
}

// groups sorts the inodes by their first name.
func (l links) groups() []group {
	groups := make([]group, 0, len(l))
	for _, names := range l {
		slices.SortFunc(names, func(a, b linkName) int { return strings.Compare(a.path, b.path) })
		g := group{names: names, whole: true, heir: names[0].was}
		for _, n := range names {
			g.whole = g.whole && n.same && n.was == g.heir
		}
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b group) int { return cmp.Compare(a.names[0].path, b.names[0].path) })
	return groups
}

// addParents records the directories above added paths that have no record yet.
func (c *comparer) addParents(added map[string]bool) {
	if len(added) == 0 {
		return
	}
	have := make(map[string]int, len(c.records))
	for i, r := range c.records {
		if r.out == outEntry {
			have[r.path] = i
		}
	}
	for name, listed := range added {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			i, ok := have[dir]
			if !ok {
				i = len(c.records)
				have[dir] = i
				c.records = append(c.records, record{path: dir, kind: Modify, out: outEntry})
			}
			c.records[i].listed = c.records[i].listed || listed
		}
	}
}
