package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// firstWrite is W1: four bytes into the middle of a lower layer's file.
func firstWrite() workload {
	return workload{
		name:    "W1",
		title:   "first write: open, four bytes into the middle of a lower layer's file, fsync, in a fresh container; the file was read through its layer, not through the container",
		counted: once,
		only:    inside,
		prepare: func(ctx context.Context, s *stand) error {
			for _, size := range s.scale.sizes() {
				err := s.Layer(ctx, sizedLayer(size), "", func(root string) error {
					return fillRandom(filepath.Join(root, "file"), size, byte(size>>20))
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
		round: func(ctx context.Context, s *stand) error {
			for _, size := range s.scale.sizes() {
				err := s.inContainer(ctx, sizedLayer(size), func(dir string) error {
					return s.timed(rowFirstWrite(size).withDisks(), func() error {
						return fourBytes(filepath.Join(dir, "file"), size/2)
					})
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func sizedLayer(size int64) string { return fmt.Sprintf("file-%d", size/mebibyte) }

func rowFirstWrite(size int64) measure {
	return scaled("first write into a file", float64(size)/mebibyte, "MiB")
}

// fourBytes opens a file, which is when overlay copies it, writes, and waits for the
// disk.
func fourBytes(file string, at int64) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("four"), at)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
