package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInitRefuses: init says why and how to mend it, with the right exit code,
// and touches nothing.
func TestInitRefuses(t *testing.T) {
	have := driver(t)
	bin := binary(t)
	fresh := func(t *testing.T) *store {
		return &store{t: t, bin: bin, root: filepath.Join(scratch(t), "store")}
	}

	t.Run("a root with other data", func(t *testing.T) {
		s := fresh(t)
		docker := filepath.Join(s.root, "overlay2", "abc")
		require.NoError(t, os.MkdirAll(docker, 0o755))
		r := s.try("init", "--driver", have)
		require.Equal(t, 1, r.code, r.stderr)
		require.Contains(t, r.stderr, "--root")
		entries, err := os.ReadDir(s.root)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.DirExists(t, docker)
	})
	t.Run("a root with a store", func(t *testing.T) {
		s := newStore(t)
		before := s.run("info", "--json")
		r := s.try("init")
		require.Equal(t, 1, r.code, r.stderr)
		require.Contains(t, r.stderr, "destroy")
		var was, is struct{ StoreID string }
		require.NoError(t, decode(before, &was))
		s.json(&is, "info")
		require.Equal(t, was, is)
	})
	t.Run("an unknown option", func(t *testing.T) {
		s := fresh(t)
		r := s.try("init", "--no-such-option")
		require.Equal(t, 2, r.code)
		require.Contains(t, r.stderr, "--no-such-option")
		require.NoDirExists(t, s.root)
	})
	t.Run("an unknown driver", func(t *testing.T) {
		s := fresh(t)
		r := s.try("init", "--driver", "aufs")
		require.NotZero(t, r.code)
		require.Contains(t, r.stderr, "aufs")
		require.NoDirExists(t, s.root)
	})
	t.Run("without root rights", func(t *testing.T) {
		// Not in scratch: a directory above that is for root alone.
		dir, err := os.MkdirTemp("/tmp", "bstest-e2e-")
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		require.NoError(t, os.Chmod(dir, 0o777))
		own := filepath.Join(dir, "blockstore")
		content, err := os.ReadFile(bin)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(own, content, 0o755))
		cmd := exec.Command(own, "--root", filepath.Join(dir, "store"), "init")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		var says bytes.Buffer
		cmd.Stderr = &says
		err = cmd.Run()
		var exit *exec.ExitError
		require.True(t, errors.As(err, &exit), "%v", err)
		require.Equal(t, 1, exit.ExitCode())
		require.Contains(t, says.String(), "root")
		require.NoDirExists(t, filepath.Join(dir, "store"))
	})
	t.Run("a kernel without the driver", func(t *testing.T) {
		s := fresh(t)
		other := "devicemapper"
		if hasDeviceMapper() || have == "zfs" { // where ZFS is, the kernel may load the module when it is asked
			t.Skip("this kernel has device-mapper; the case is tested on one that does not")
		}
		r := s.try("init", "--driver", other)
		require.Equal(t, 1, r.code, r.stderr)
		require.Contains(t, r.stderr, "device-mapper")
		require.NoDirExists(t, s.root)
	})
	t.Run("a device with a file system", func(t *testing.T) {
		if have != "devicemapper" {
			t.Skip("only devicemapper takes devices, and there is no device-mapper in this kernel")
		}
		dir := scratch(t)
		data, metadata := filepath.Join(dir, "data"), filepath.Join(dir, "metadata")
		for _, f := range []string{data, metadata} {
			command(t, "truncate", "-s", "300M", f)
		}
		command(t, "mkfs.ext4", "-q", data)
		before := sum(t, data)
		dataLoop := strings.TrimSpace(command(t, "losetup", "-f", "--show", data))
		metaLoop := strings.TrimSpace(command(t, "losetup", "-f", "--show", metadata))
		defer command(t, "losetup", "-d", dataLoop, metaLoop)
		s := fresh(t)
		r := s.try("init", "--driver", "devicemapper", "--data-device", dataLoop, "--metadata-device", metaLoop)
		require.Equal(t, 1, r.code, r.stderr)
		require.Contains(t, r.stderr, "ext4")
		require.Equal(t, before, sum(t, data))
		require.NoDirExists(t, s.root)
	})
}

func sum(t *testing.T, file string) [32]byte {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return sha256.Sum256(content)
}
