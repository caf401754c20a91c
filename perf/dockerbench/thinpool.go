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

	"blockstore.dev/blockstore/perf"
)

// thinPool makes a thin pool for Docker's devicemapper and returns its path.
func thinPool(ctx context.Context, p *peer) (string, error) {
	data, metadata := perf.PoolFiles(p.dir)
	p.backing = append(p.backing, data, metadata)
	name := fmt.Sprintf("bstest-dockerbench-%d", os.Getpid())
	if err := perf.ThinPool(ctx, p.undo, p.dir, name, p.o.diskSize); err != nil {
		return "", err
	}
	p.undo.Add("dockerd's devices", func() error {
		back, cancel := perf.Undoing()
		defer cancel()
		return removeDockers(back, p.data)
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
	list, err := perf.Output(ctx, "dmsetup", "ls")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(list) {
		if name, _, _ := strings.Cut(line, "\t"); strings.HasPrefix(name, mine) {
			_, err := perf.Output(ctx, "dmsetup", "remove", "--retry", name)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
