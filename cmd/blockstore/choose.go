package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"blockstore.dev/blockstore/snapshot"
)

// Names of drivers, as --driver takes them.
const (
	driverAuto  = "auto"
	driverDM    = "devicemapper"
	driverBtrfs = "btrfs"
	driverZFS   = "zfs"
)

// choice is a driver and why it was taken, which `info` shows ever after.
type choice struct {
	kind snapshot.Kind
	why  string
}

// wish is what the command line says about the driver.
type wish struct {
	// driver is its name or "auto".
	driver string
	// flag is a flag that only the driver flagDriver can follow, "" if none was
	// given.
	flag, flagDriver string
}

// choose finds the driver for a new store at root.
//
// The order is Docker's for these three: btrfs and zfs where the root directory
// lies on them, then device-mapper on a loopback pool. What is left is btrfs on
// a loopback file. Nothing is made or changed.
func (a *app) choose(ctx context.Context, w wish) (choice, error) {
	switch {
	case w.driver != driverAuto && w.flag != "" && w.driver != w.flagDriver:
		return choice{}, usagef("%s is for --driver %s, not for %s", w.flag, w.flagDriver, w.driver)
	case w.driver != driverAuto:
		return a.chooseNamed(ctx, w.driver, "named with --driver")
	case w.flag != "":
		return a.chooseNamed(ctx, w.flagDriver, "auto: "+w.flag+" asks for it")
	}
	return a.chooseAuto(ctx)
}

func (a *app) chooseNamed(ctx context.Context, name, why string) (choice, error) {
	k := a.kind(name)
	if k == nil {
		return choice{}, fmt.Errorf("--driver %s: this version has no such driver, it has %s: %w",
			name, strings.Join(a.kindNames(), ", "), snapshot.ErrNotSupported)
	}
	if err := k.Probe(ctx); err != nil {
		return choice{}, fmt.Errorf("the driver %s cannot run here: %w", name, errors.Join(err, unlessIs(err, snapshot.ErrNotSupported)))
	}
	return choice{k, why}, nil
}

// unlessIs is the sentinel if err is not that already.
func unlessIs(err, sentinel error) error {
	if errors.Is(err, sentinel) {
		return nil
	}
	return sentinel
}

// step is one thing that auto tries.
type step struct {
	driver string
	// on is the file system that the root directory must lie on, "" for any.
	on string
	// how it would be used, for the reason.
	how string
}

func autoSteps() []step {
	return []step{
		{driverBtrfs, "btrfs", "the root directory lies on btrfs"},
		{driverZFS, "zfs", "the root directory lies on ZFS"},
		{driverDM, "", "a loopback pool: this kernel has device-mapper thin pools"},
		{driverBtrfs, "", "a btrfs in a loopback file: this kernel has btrfs"},
	}
}

func (a *app) chooseAuto(ctx context.Context) (choice, error) {
	fs, err := a.fsType(a.root)
	if err != nil {
		return choice{}, err
	}
	var passed, missing []string
	for _, s := range autoSteps() {
		k := a.kind(s.driver)
		switch {
		case s.on != "" && s.on != fs:
			passed = append(passed, "the root directory lies on "+fs)
			continue
		case k == nil:
			reason := s.driver + ": not in this version of blockstore"
			passed, missing = append(passed, reason), append(missing, reason)
			continue
		}
		if err := k.Probe(ctx); err != nil {
			reason := s.driver + ": " + strings.ReplaceAll(err.Error(), "\n", "; ")
			passed, missing = append(passed, reason), append(missing, reason)
			continue
		}
		return choice{k, because(s.how, passed)}, nil
	}
	return choice{}, fmt.Errorf("no driver can run here: %s: %w", strings.Join(unique(missing), "; "), snapshot.ErrNotSupported)
}

// because tells the reason for a choice and what was passed over for it.
func because(how string, passed []string) string {
	if len(passed) == 0 {
		return "auto: " + how
	}
	return "auto: " + how + " (" + strings.Join(unique(passed), "; ") + ")"
}

func unique(list []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range list {
		if !seen[s] {
			out = append(out, s)
		}
		seen[s] = true
	}
	return out
}

func (a *app) kind(name string) snapshot.Kind {
	for _, k := range a.kinds {
		if k.Name() == name {
			return k
		}
	}
	return nil
}

func (a *app) kindNames() []string {
	var names []string
	for _, k := range a.kinds {
		names = append(names, k.Name())
	}
	return names
}
