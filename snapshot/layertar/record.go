package layertar

import (
	"cmp"
	"strings"
)

// output is what a record becomes in a layer tar.
type output int

const (
	outNothing  output = iota // hidden by an opaque marker
	outEntry                  // the file itself
	outWhiteout               // .wh.NAME
	outOpaque                 // the path is that of the marker
)

// record is one finding of [compare].
type record struct {
	path   string // relative to the root, "." is the root
	kind   ChangeKind
	out    output
	listed bool // [Changes] shows it
	size   int64
	file   inode // set where it has several names
}

// measure notes what [Size] counts of a file that is not a directory.
func (r *record) measure(h *half) {
	r.size = h.st.Size
	if h.st.Nlink > 1 {
		r.file = inode{h.st.Dev, h.st.Ino}
	}
}

// compareRecords orders records as they stand in a tar: a directory before what is in it,
// whiteouts before everything else in their directory, names by their bytes.
func compareRecords(a, b record) int {
	if a.path == "." || b.path == "." {
		return cmp.Compare(boolInt(a.path != "."), boolInt(b.path != "."))
	}
	pa, pb := a.path, b.path
	for {
		na, ra, deepA := strings.Cut(pa, "/")
		nb, rb, deepB := strings.Cut(pb, "/")
		if na == nb && deepA && deepB {
			pa, pb = ra, rb
			continue
		}
		return cmp.Or(
			cmp.Compare(boolInt(deepA || !a.deletes()), boolInt(deepB || !b.deletes())),
			strings.Compare(na, nb),
			cmp.Compare(boolInt(deepA), boolInt(deepB)),
		)
	}
}

func (r record) deletes() bool { return r.out == outWhiteout || r.out == outOpaque }

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
