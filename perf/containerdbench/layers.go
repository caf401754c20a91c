package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// fileSize is that of the files in layers, in bytes.
const fileSize = 1 << 20

// content is a file's: random, since a disk may compress, and made once, since making
// it is no snapshotter's work.
func content(size int) []byte {
	seed := [32]byte{1}
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// The changes that a layer makes, by the letters below.
const (
	created = 'c' // a new file of 1 MiB, or all of an old one's content; fsync
	updated = 'u' // four bytes in the middle
	removed = 'r' // the file is removed
)

// plan says what layer n, counted from 1, does to the files a to j: the cases of
// containerd's own benchmark (core/snapshots/benchsuite).
func plan(n int) string {
	switch {
	case n%3 == 0:
		return "uucuucrcuc"
	case n%2 == 0:
		return "ucrcurcucu"
	}
	return "cccccccccc"
}

// fileName is that of a plan's letter i.
func fileName(i int) string { return string(rune('a' + i)) }

// fillLayer makes layer n's changes below root.
func fillLayer(n int, data []byte) func(root string) error {
	return func(root string) error {
		for i, what := range plan(n) {
			if err := changeFile(filepath.Join(root, fileName(i)), what, data); err != nil {
				return fmt.Errorf("layer %d: %w", n, err)
			}
		}
		return nil
	}
}

func changeFile(file string, what rune, data []byte) error {
	switch what {
	case created:
		return writeFile(file, data)
	case updated:
		return overwrite(file, int64(len(data))/2, data[:4])
	}
	return os.RemoveAll(file)
}

// writeFile writes a file and waits for it, as containerd's benchmark does.
func writeFile(file string, data []byte) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o777)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

func overwrite(file string, at int64, data []byte) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	_, err = f.WriteAt(data, at)
	return err
}

// fillFiles writes n files.
func fillFiles(n int, data []byte) func(root string) error {
	return func(root string) error {
		for i := range n {
			if err := writeFile(filepath.Join(root, fmt.Sprintf("file-%d", i)), data); err != nil {
				return err
			}
		}
		return nil
	}
}
