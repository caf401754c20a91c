package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

// poolMetadata is the size of a pool's metadata: a few times what the run can fill.
const poolMetadata = 512 << 20

// thinPool makes a thin pool for Docker's devicemapper and returns its path.
func thinPool(ctx context.Context, p *peer) (string, error) {
	data, metadata := filepath.Join(p.dir, "data.img"), filepath.Join(p.dir, "metadata.img")
	p.backing = append(p.backing, data, metadata)
	if err := errors.Join(sparse(data, p.o.diskSize), sparse(metadata, poolMetadata)); err != nil {
		return "", err
	}
	var loops []string
	for _, file := range []string{metadata, data} {
		loop, err := ioctl.AttachLoop(ctx, file, ioctl.LoopOptions{AutoClear: true})
		if err != nil {
			return "", err
		}
		defer loop.Close() // the pool holds it by then
		loops = append(loops, loop.Path())
	}
	name := fmt.Sprintf("bstest-dockerbench-%d", os.Getpid())
	table := fmt.Sprintf("0 %d thin-pool %s %s 128 32768 1 skip_block_zeroing", p.o.diskSize/512, loops[0], loops[1])
	if _, err := output(ctx, "dmsetup", "create", name, "--table", table); err != nil {
		return "", err
	}
	p.undo.add(name, func() error {
		back, cancel := undoing()
		defer cancel()
		if err := removeDockers(back, p.data); err != nil {
			return err
		}
		_, err := output(back, "dmsetup", "remove", "--retry", name)
		return err
	})
	return "/dev/mapper/" + name, nil
}

// removeDockers removes the devices that a dockerd left which could not end in
// order. It names them after the file of its directory.
func removeDockers(ctx context.Context, data string) error {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(data, "devicemapper"), &st); err != nil {
		return nil // it did not get so far
	}
	mine := "docker-" + strconv.Itoa(int(unix.Major(st.Dev))) + ":" + strconv.Itoa(int(unix.Minor(st.Dev))) +
		"-" + strconv.FormatUint(st.Ino, 10) + "-"
	list, err := output(ctx, "dmsetup", "ls")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(list) {
		if name, _, _ := strings.Cut(line, "\t"); strings.HasPrefix(name, mine) {
			_, err := output(ctx, "dmsetup", "remove", "--retry", name)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
