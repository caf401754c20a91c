package layertar

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ChangeKind says what happened to a path.
type ChangeKind int

// The kinds, with the numbers of Docker's plugin protocol.
const (
	Modify ChangeKind = iota // "C"
	Add                      // "A"
	Delete                   // "D"
)

// String gives the letter that "docker diff" prints: C, A or D.
func (k ChangeKind) String() string {
	switch k {
	case Modify:
		return "C"
	case Add:
		return "A"
	case Delete:
		return "D"
	}
	return "?"
}

// Change is one path that differs between two trees.
type Change struct {
	Path string // begins with a slash
	Kind ChangeKind
}

// CompareOptions say how two trees are compared. The zero value compares
// unrelated trees completely.
type CompareOptions struct {
	// Snapshots says that lower and upper are snapshots of one lineage: a file that has the
	// same inode number and change time on both sides is the same, unseen.
	Snapshots bool
	// Since is a time at which upper was what lower is: lower had stopped changing, and upper's changes had not begun. Change times
	// are only as fine as the kernel's clock tick, so files changed right before it are compared in full. Zero: trust all.
	Since time.Time
	// Lineage, with Snapshots, knows what is the same without a look at it.
	Lineage Lineage
	// Looked, if set, is called with each path, from the root on, that is looked at in
	// either tree.
	Looked func(path string)
}

// Account knows which files of upper are what they are in lower, by what was written between; where their names are it does not.
// For one goroutine at a time.
type Account interface {
	// Untouched says of an inode number that the file is in both trees the same: content and metadata, of a directory the names
	// in it as well, whatever has become of what they name.
	Untouched(inode uint64) bool
	// Reveal ends that for a file of upper.
	Reveal(inode uint64) error
	// Exact says that what the account does not vouch for was written to, so that it is compared in full. Where it may be a
	// mere neighbour of what was, change times decide, as they do without an account.
	Exact() bool
}

// Lineage is an Account that knows directories, too: its own, or that of [Parents].
type Lineage interface {
	// Account's Reveal ends Same for the directories above all names of the file as well.
	Account
	// Same says of an inode number that the file, and if it is a directory everything
	// beneath it, is in both trees the same: content, metadata and names, but for those
	// of the directories above.
	Same(inode uint64) bool
}

// Changes lists the differences between two trees, sorted by path. lower may be
// "", an empty tree. Sockets are listed although no tar holds them, as Docker does, if they
// are new or gone. The root itself and an empty lost+found in the root are
// never listed; of a deleted directory only the directory is; a directory with changes
// below is listed as Modify. While somebody writes to upper each path is told as it was at one moment or another of the call.
func Changes(ctx context.Context, lower, upper string, opts CompareOptions) ([]Change, error) {
	records, err := compare(ctx, lower, upper, opts)
	if err != nil {
		return nil, fmt.Errorf("comparing trees: %w", err)
	}
	changes := make([]Change, 0, len(records))
	for _, r := range records {
		if r.listed {
			changes = append(changes, Change{Path: "/" + r.path, Kind: r.kind})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return changes, nil
}

// Size sums the sizes in bytes of the files that Changes lists as added or changed:
// as stat(2) gives them, holes counted in, a file with several names once,
// directories and deletions not at all. Docker calls it a container's size.
func Size(ctx context.Context, lower, upper string, opts CompareOptions) (int64, error) {
	records, err := compare(ctx, lower, upper, opts)
	if err != nil {
		return 0, fmt.Errorf("comparing trees: %w", err)
	}
	var sum int64
	seen := map[inode]bool{}
	for _, r := range records {
		if !r.listed || r.kind == Delete || seen[r.file] {
			continue
		}
		if r.file != (inode{}) {
			seen[r.file] = true
		}
		sum += r.size
	}
	return sum, nil
}
