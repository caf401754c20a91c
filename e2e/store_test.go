package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// binary is the command line under test: the one that `make build` made, or one
// built now.
func binary(t *testing.T) string {
	t.Helper()
	if b := os.Getenv("BLOCKSTORE_BIN"); b != "" {
		return b
	}
	built, err := filepath.Abs("../bin/blockstore")
	require.NoError(t, err)
	if os.Getenv("BLOCKSTORE_MACHINE") != "" { // built on the host before
		require.FileExists(t, built)
		return built
	}
	cmd := exec.Command("go", "build", "-o", built, "../cmd/blockstore")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return built
}

// noZFS is the reason of tests that are asked for ZFS where there is none.
const noZFS = "no ZFS in this kernel"

func driver(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the store mounts file systems")
	}
	_, zfsErr := os.Stat("/dev/zfs")
	if d := os.Getenv("BSTEST_DRIVER"); d != "" {
		if d == "zfs" && zfsErr != nil {
			t.Skip(noZFS)
		}
		return d
	}
	if zfsErr == nil && os.Getenv("BLOCKSTORE_MACHINE") != "uml" {
		return "zfs"
	}
	if hasDeviceMapper() {
		return "devicemapper"
	}
	return "btrfs"
}

// hasDeviceMapper asks the kernel: the device node is also made by programs that only
// look for it.
func hasDeviceMapper() bool {
	misc, err := os.ReadFile("/proc/misc")
	return err == nil && bytes.Contains(misc, []byte(" device-mapper\n"))
}

// scratch is a directory on a real file system, gone after the test.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv("BSTEST_DIR"), "bstest-e2e-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// store is a store driven by the command line.
type store struct {
	t    *testing.T
	bin  string
	root string
}

// newStore inits a store; when the test ends it is checked and destroyed.
func newStore(t *testing.T, args ...string) *store {
	t.Helper()
	return newStoreIn(t, scratch(t), args...)
}

func newStoreIn(t *testing.T, dir string, args ...string) *store {
	t.Helper()
	s := &store{t: t, bin: binary(t), root: filepath.Join(dir, "store")}
	s.run(append([]string{"init", "--driver", driver(t)}, args...)...)
	t.Cleanup(func() {
		s.run("check")
		s.run("destroy", "--yes")
		require.NoDirExists(t, s.root)
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		require.NoError(t, err)
		require.NotContains(t, string(mounts), s.root, "a mount was left behind")
		backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
		for _, b := range backing {
			file, _ := os.ReadFile(b)
			require.NotContains(t, string(file), s.root, "a loop device was left behind")
		}
	})
	return s
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

func (s *store) try(args ...string) result {
	s.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(s.bin, append([]string{"--root", s.root}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(s.t, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// run runs a command that must succeed and returns its stdout without the last
// newline.
func (s *store) run(args ...string) string {
	s.t.Helper()
	return s.must(args...).text()
}

func (s *store) must(args ...string) result {
	s.t.Helper()
	r := s.try(args...)
	require.Zero(s.t, r.code, "blockstore %s: %s%s", strings.Join(args, " "), r.stdout, r.stderr)
	return r
}

func (r result) text() string { return strings.TrimSuffix(r.stdout, "\n") }

// json runs a command with --json and decodes what it prints.
func (s *store) json(into any, args ...string) {
	s.t.Helper()
	out := s.run(append([]string{"--json"}, args...)...)
	require.NoError(s.t, decode(out, into), out)
}

func decode(text string, into any) error { return json.Unmarshal([]byte(text), into) }

// used is what the backing store has allocated: data and, where it is apart,
// metadata, in bytes.
func (s *store) used() (data, metadata int64) {
	s.t.Helper()
	var info struct {
		Backing struct {
			Data, Metadata struct{ Used int64 }
		}
	}
	s.json(&info, "info")
	return info.Backing.Data.Used, info.Backing.Metadata.Used
}

// command runs a partner program that must succeed.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
	return string(out)
}
