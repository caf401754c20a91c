package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// writeVerb is this program's part inside a container.
const writeVerb = "write"

// written is what it measured there.
type written struct {
	First   time.Duration `json:"first"`   // open, four bytes into the middle, fsync
	Durable time.Duration `json:"durable"` // all random overwrites, fdatasync after each
	Batch   time.Duration `json:"batch"`   // as many others, one fdatasync after the last
}

// block is what a random overwrite writes: a page, as databases do.
const block = 4096

// writeInside is the verb: it writes into a file and prints what it took.
func writeInside(args []string, stdout io.Writer) error {
	f := flag.NewFlagSet(writeVerb, flag.ContinueOnError)
	file := f.String("file", "", "file to write into")
	warm := f.Bool("warm", false, "read the whole file first")
	overwrites := f.Int("overwrites", 0, "random overwrites afterwards, of each kind")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *warm {
		if err := readAll(*file); err != nil {
			return err
		}
	}
	// What others have not written yet would have to be written in our fsync.
	unix.Sync()
	var w written
	fd, err := firstWrite(*file, &w)
	if err != nil {
		return fmt.Errorf("first write: %w", err)
	}
	if err := errors.Join(randomWrites(fd, *overwrites, &w), unix.Close(fd)); err != nil {
		return fmt.Errorf("random overwrites: %w", err)
	}
	return json.NewEncoder(stdout).Encode(w)
}

func readAll(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return err
}

// firstWrite opens the file for writing, which is when overlay copies it, and
// writes four bytes into its middle.
func firstWrite(file string, w *written) (int, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return -1, err
	}
	begin := time.Now()
	fd, err := unix.Open(file, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if _, err = unix.Pwrite(fd, []byte("four"), st.Size/2); err == nil {
		err = unix.Fsync(fd)
	}
	w.First = time.Since(begin)
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// randomWrites overwrites blocks at the same random places for everybody.
func randomWrites(fd, count int, w *written) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, block)
	put := func() error {
		_, err := unix.Pwrite(fd, data, random.Int64N(st.Size/block)*block)
		return err
	}
	begin := time.Now()
	for range count {
		if err := errors.Join(put(), unix.Fdatasync(fd)); err != nil {
			return err
		}
	}
	w.Durable = time.Since(begin)
	begin = time.Now()
	for range count {
		if err := put(); err != nil {
			return err
		}
	}
	if err := unix.Fdatasync(fd); err != nil {
		return err
	}
	w.Batch = time.Since(begin)
	return nil
}
