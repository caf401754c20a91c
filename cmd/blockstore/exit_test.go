package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

func TestOutcomeOf(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("doing it: %w", err) }
	tests := []struct {
		name string
		err  error
		code int
		kind string
	}{
		{"done", nil, 0, ""},
		{"unknown", errors.New("x"), 1, "failed"},
		{"usage", wrap(usagef("x")), 2, "usage"},
		{"usage about what is missing", usageError{snapshot.ErrNotFound}, 2, "usage"},
		{"not found", wrap(snapshot.ErrNotFound), 3, "not found"},
		{"in use", wrap(snapshot.ErrBusy), 4, "in use"},
		{"no space", wrap(snapshot.ErrNoSpace), 5, "no space"},
		{"the kernel's no space", wrap(syscall.ENOSPC), 5, "no space"},
		{"quota", wrap(syscall.EDQUOT), 5, "no space"},
		{"repair", wrap(snapshot.ErrCorrupt), 6, "needs repair"},
		{"exists", wrap(snapshot.ErrExists), 1, "already exists"},
		{"invalid", wrap(snapshot.ErrInvalid), 1, "invalid"},
		{"not supported", wrap(snapshot.ErrNotSupported), 1, "not supported"},
		{"interrupted", wrap(context.Canceled), 1, "interrupted"},
		{"the gravest of several", errors.Join(snapshot.ErrNotFound, snapshot.ErrBusy, snapshot.ErrCorrupt), 6, "needs repair"},
		{"with a hint", mendf(wrap(snapshot.ErrBusy), "stop it"), 4, "in use"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, outcome{tt.code, tt.kind}, outcomeOf(tt.err))
		})
	}
}

func TestMendOf(t *testing.T) {
	require.Equal(t, "", mendOf(nil, defaultRoot))
	require.Equal(t, "", mendOf(errors.New("x"), defaultRoot))
	require.Equal(t, "do it", mendOf(fmt.Errorf("x: %w", mendf(snapshot.ErrCorrupt, "do %s", "it")), defaultRoot))
	require.Contains(t, mendOf(errNotRoot, defaultRoot), "as root")
	require.Contains(t, mendOf(snapshot.ErrCorrupt, "/x"), "blockstore --root /x check --repair")
	require.Contains(t, mendOf(snapshot.ErrNoSpace, defaultRoot), "blockstore pool extend")
	require.NoError(t, mendf(nil, "nothing to mend"))
}

func TestCommandLineMistakes(t *testing.T) {
	tests := []struct {
		name string
		args []string
		says string
	}{
		{"unknown verb", []string{"frobnicate"}, `unknown verb "frobnicate"`},
		{"unknown flag", []string{"init", "--frob", "1"}, "--frob"},
		{"unknown global flag", []string{"--frob", "info"}, "--frob"},
		{"size that is none", []string{"init", "--loopback", "10X"}, `unknown unit "X"`},
		{"driver that is none", []string{"init", "--driver", "aufs"}, `--driver "aufs"`},
		{"file system that is none", []string{"init", "--fs", "ntfs"}, `--fs "ntfs"`},
		{"half a pool", []string{"init", "--data-device", "/dev/x"}, "belong together"},
		{"two backings", []string{"init", "--data-device", "/dev/x", "--metadata-device", "/dev/y", "--loopback", "1G"}, "exclude"},
		{"two backings of ZFS", []string{"init", "--dataset", "tank", "--loopback", "1G"}, "--loopback and --dataset exclude"},
		{"dataset of another driver", []string{"init", "--dataset", "tank", "--driver", "btrfs"}, "--dataset is for --driver zfs"},
		{"too few arguments", []string{"tag", "a"}, "tag takes 2 arguments"},
		{"too many arguments", []string{"info", "a"}, "info takes no argument"},
		{"no argument", []string{"rm"}, "rm takes at least one argument"},
		{"log level", []string{"--log-level", "loud", "info"}, `--log-level "loud"`},
		{"root", []string{"--root", "", "info"}, `--root ""`},
		{"bad name", []string{"create", "--name", "a/b", "x"}, `--name "a/b"`},
		{"destroy without yes", []string{"destroy"}, "--yes"},
		{"pool", []string{"pool"}, "status, watch, extend, trim or repair"},
		{"pool what", []string{"pool", "shrink"}, `unknown verb "shrink"`},
		{"pool extend", []string{"pool", "extend", "-5G"}, "-5"},
		{"save format", []string{"save", "--format", "zip", "x"}, `--format "zip"`},
		{"save compression", []string{"save", "--compression", "gzip", "x"}, "plain layers only"},
		{"save directory to stdout", []string{"save", "--format", "oci-dir", "x"}, "-o DIR"},
		{"two lists", []string{"images", "--tree", "-q"}, "exclude"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, out, errs := fakeApp("ext4")
			require.Equal(t, exitUsage, a.run(context.Background(), tt.args), errs.String())
			require.Empty(t, out.String(), "stdout is data")
			require.Contains(t, errs.String(), tt.says)
		})
	}
}

func TestOnlyRoot(t *testing.T) {
	for _, args := range [][]string{{"init"}, {"info"}, {"destroy", "--yes"}, {"create", "x"}, {"load", "-i", "x"}} {
		a, out, errs := fakeApp("ext4", fakeKind{driverBtrfs, nil})
		a.euid = func() int { return 1000 }
		args = append([]string{"--root", t.TempDir() + "/store"}, args...)
		require.Equal(t, exitFailed, a.run(context.Background(), args))
		require.Empty(t, out.String())
		require.Contains(t, errs.String(), "must be root")
		require.Contains(t, errs.String(), "sudo")
	}
}

func TestErrorsAsJSON(t *testing.T) {
	a, out, errs := fakeApp("ext4")
	require.Equal(t, exitNotFound, a.run(context.Background(), []string{"--json", "--root", t.TempDir(), "info"}))
	require.Empty(t, out.String())
	var f failure
	require.NoError(t, json.Unmarshal(errs.Bytes(), &f), errs.String())
	require.Equal(t, "not found", f.Kind)
	require.Equal(t, 3, f.Code)
	require.Contains(t, f.Error, "no store at")
}
