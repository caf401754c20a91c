package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"blockstore.dev/blockstore/vagrant/machine"
)

// image is what the machine is booted from: files in the cache.
type image struct{ kernel, initrd, root string }

// makeImage finds the image, or has it built, which takes minutes.
func makeImage(ctx context.Context) (image, error) {
	dir, err := machine.Make(ctx, "vm")
	if err != nil {
		return image{}, err
	}
	return image{
		kernel: filepath.Join(dir, "vmlinuz"), initrd: filepath.Join(dir, "initrd.cpio"), root: filepath.Join(dir, "root.ext4"),
	}, nil
}

// writeInitrd writes the image's initial file system with this program as its
// init: the kernel unpacks archives that follow each other.
func writeInitrd(to, modules string) (err error) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	first, err := os.Open(modules)
	if err != nil {
		return err
	}
	defer first.Close()
	if _, err := io.Copy(f, first); err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	writeCpio(&archive, "init", 0o100755, self)
	writeCpio(&archive, "TRAILER!!!", 0, nil)
	_, err = f.Write(archive.Bytes())
	return err
}

// writeCpio adds a file in the format "newc" of the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst: thirteen numbers
// of eight hexadecimal digits, the name, the content, each padded to four bytes.
func writeCpio(w *bytes.Buffer, name string, mode int, content []byte) {
	const links = 1
	numbers := []int{0, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0}
	w.WriteString("070701")
	for _, n := range numbers {
		fmt.Fprintf(w, "%08x", n)
	}
	w.WriteString(name + "\x00")
	pad(w)
	w.Write(content)
	pad(w)
}

func pad(w *bytes.Buffer) {
	for w.Len()%4 != 0 {
		w.WriteByte(0)
	}
}
