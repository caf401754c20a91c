package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"blockstore.dev/blockstore/perf"
)

// many is a layer with many small files.
const many = "many"

// filesInDir is how many lie in one directory.
const filesInDir = 100

// smallNames are the files of many, below its root.
func (s Scale) smallNames() []string {
	var names []string
	for i := range s.Files {
		names = append(names, fmt.Sprintf("dir-%d/file-%d", i/filesInDir, i))
	}
	return names
}

// manyFiles makes files of 4 KiB and their directories.
func manyFiles(root string, names []string) error {
	made := map[string]bool{}
	for i, name := range names {
		file := filepath.Join(root, name)
		if dir := filepath.Dir(file); !made[dir] {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			made[dir] = true
		}
		if err := fillRandom(file, 4<<10, byte(i)); err != nil {
			return err
		}
	}
	return nil
}

// smallFiles is W3.
func smallFiles() workload {
	return workload{
		name:        "W3",
		title:       "small files: files of 4 KiB made in a container, a hundred in a directory; five bytes appended to as many of a lower layer, by 1 and 8 writers; those removed; each until all of it is on disk",
		fileSystems: true,
		only:        inside, counted: inFull,
		prepare: func(ctx context.Context, s *stand) error {
			return s.Layer(ctx, many, "", func(root string) error { return manyFiles(root, s.scale.smallNames()) })
		},
		round: func(ctx context.Context, s *stand) error {
			names := s.scale.smallNames()
			for _, writers := range []int{1, 8} {
				err := s.inContainer(ctx, many, func(dir string) error {
					m := scaled(fmt.Sprintf("append to %d files of a lower layer", len(names)), float64(writers), "writers")
					return s.onDisk(m, func() error {
						return each(names, writers, func(name string) error { return appendTo(filepath.Join(dir, name)) })
					})
				})
				if err != nil {
					return err
				}
			}
			return s.inContainer(ctx, many, func(dir string) error { return s.makeAndRemove(dir, names) })
		},
	}
}

// onDisk is timed with disks, until everything is written out.
func (s *stand) onDisk(m measure, do func() error) error {
	return s.timed(m.withDisks(), func() error { return errors.Join(do(), perf.Flush(s.site.Dir)) })
}

// makeAndRemove makes new files beside a layer's, and removes the layer's: on a plain
// file system, where they would be gone for all rounds, the new ones.
func (s *stand) makeAndRemove(dir string, names []string) error {
	fresh := filepath.Join(dir, "new")
	err := s.onDisk(row(fmt.Sprintf("make %d files", len(names))), func() error { return manyFiles(fresh, names) })
	if err != nil {
		return err
	}
	from := dir
	if s.peer.FileSystem {
		from = fresh
	}
	err = s.onDisk(row(fmt.Sprintf("remove %d files of a lower layer", len(names))), func() error {
		return each(names, 1, func(name string) error { return os.Remove(filepath.Join(from, name)) })
	})
	if s.peer.FileSystem {
		err = errors.Join(err, os.RemoveAll(fresh))
	}
	return err
}

func appendTo(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("five.")
	return errors.Join(err, f.Close())
}
