package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestUsed: of the cache goes what is of the same kind and was not used for thirty days, and nothing else.
func TestUsed(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().AddDate(0, 0, -40)
	for name, when := range map[string]time.Time{
		"uml-0123456789ab": old, // which is used now
		"uml-1123456789ab": old, "uml-2123456789ab.new": old, "uml-3123456789ab": time.Now().AddDate(0, 0, -20),
		"uml.lock": old, "vm-kvm": old, "vm-0123456789ab": old, "vmkernel-0123456789ab.tar": old,
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.Mkdir(path, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(path, "file"), nil, 0o600))
		require.NoError(t, os.Chtimes(path, when, when))
	}
	used := func(name string, want ...string) {
		t.Helper()
		out, err := exec.Command("../used", filepath.Join(dir, name)).CombinedOutput()
		require.NoError(t, err, "%s", out)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		var left []string
		for _, e := range entries {
			left = append(left, e.Name())
		}
		require.Equal(t, want, left)
	}
	left := []string{"uml-0123456789ab", "uml-3123456789ab", "uml.lock", "vm-0123456789ab", "vm-kvm", "vmkernel-0123456789ab.tar"}
	used("uml-0123456789ab", left...)
	used("uml-4123456789ab", left...) // it is not there, and is not made
	used("vm-1123456789ab", "uml-0123456789ab", "uml-3123456789ab", "uml.lock", "vm-kvm", "vmkernel-0123456789ab.tar")
}
