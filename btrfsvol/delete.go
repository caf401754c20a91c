package btrfsvol

import (
	"errors"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

// deleteTries bounds how often Delete looks for nested subvolumes that somebody
// makes meanwhile.
const deleteTries = 16

// Delete deletes a subvolume and those nested in it, the innermost first, and
// returns the ids of all that it deleted, also when it failed half-way. Their names
// are gone at once; their space is freed by the cleaner later (Sync wakes it), and
// until the next commit a power cut can bring them back. ErrNotFound when there is
// none of that id.
//
// The kernel does not refuse to delete a subvolume that is mounted or in use: files
// that are open stay readable, the rest vanishes. Whoever needs that keeps count.
//
// Deleting takes no look at files: its cost is a few system calls for each subvolume.
func (fs *FS) Delete(id SubvolumeID) ([]SubvolumeID, error) {
	var deleted []SubvolumeID
	var err error
	for range deleteTries {
		var done []SubvolumeID
		done, err = fs.deleteOnce(id)
		deleted = append(deleted, done...)
		if !errors.Is(err, unix.ENOTEMPTY) {
			break
		}
	}
	return deleted, wrap(err, "delete subvolume %d", id)
}

func (fs *FS) deleteOnce(id SubvolumeID) ([]SubvolumeID, error) {
	var deleted []SubvolumeID
	// Each entry is deleted when it comes up a second time, after its children.
	type entry struct {
		id   SubvolumeID
		seen bool
	}
	for stack := []entry{{id: id}}; len(stack) > 0; {
		top := &stack[len(stack)-1]
		if !top.seen {
			top.seen = true
			children, err := fs.Children(top.id)
			if err != nil {
				return deleted, err
			}
			for _, child := range children {
				stack = append(stack, entry{id: child})
			}
			continue
		}
		err := ioctl.BtrfsSnapDestroyByID(fs.fd, uint64(top.id))
		if err != nil && (top.id == id || !errors.Is(err, unix.ENOENT)) {
			return deleted, err
		}
		deleted = append(deleted, top.id)
		stack = stack[:len(stack)-1]
	}
	return deleted, nil
}
