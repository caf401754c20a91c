package graphdriver

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

func httptestServer(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestParseOptions(t *testing.T) {
	dm := facts{driver: "devicemapper", fileSystem: "ext4", rows: map[string]string{"Pool Blocksize": "64 KiB"}}
	btrfs := facts{driver: "btrfs", fileSystem: "btrfs"}
	for text, want := range map[string]rules{
		"size=20G": {size: 20 << 30, leastFree: 10}, "dm.basesize=10g": {size: 10 << 30, leastFree: 10},
		"DM.Min_Free_Space=5%": {leastFree: 5}, "dm.min_free_space=0%": {},
		"dm.fs=ext4": {leastFree: 10}, "dm.blocksize=64K": {leastFree: 10}, "dm.blkdiscard=true": {leastFree: 10},
		"dm.use_deferred_removal=1": {leastFree: 10}, "dm.use_deferred_deletion=true": {leastFree: 10},
		"dm.override_udev_sync_check=false": {leastFree: 10},
	} {
		got, err := parseOptions([]string{text}, dm)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	got, err := parseOptions([]string{"btrfs.min_space=5G"}, btrfs)
	require.NoError(t, err)
	require.Equal(t, rules{leastSize: 5 << 30}, got)
	for text, why := range map[string]string{
		"size": "key=value", "=": "unknown", "size=": "begin with a number", "size=-1": "invalid", "dm.nothing=1": "unknown",
		"dm.min_free_space=10": "not 0%", "dm.min_free_space=100%": "not 0%", "dm.fs=xfs": "blockstore init --fs",
		"dm.blocksize=512K": "cannot change", "dm.blkdiscard=false": "always", "dm.blkdiscard=maybe": "neither",
		"dm.thinpooldev=x": "init` --thin-pool", "dm.directlvm_device=/dev/x": "--device DEV --yes", "dm.loopdatasize=1G": "--loopback", "dm.thinp_autoextend_threshold=80": "serve --extend-at", "dm.thinp_autoextend_percent=20": "serve --extend-by", "dm.mkfsarg=-x": "--fs",
		"btrfs.min_space=1G": "for the driver btrfs", "zfs.fsname=tank": "--dataset POOL/FS",
	} {
		_, err := parseOptions([]string{text}, dm)
		require.ErrorContains(t, err, why, text)
		require.Contains(t, err.Error(), "storage option")
	}
	_, err = parseOptions([]string{"dm.basesize=20G"}, btrfs)
	require.ErrorContains(t, err, "for the driver devicemapper")
}

// TestOptionsAreDocumented: each option has a row in docs/docker.md, and each row an
// option.
func TestOptionsAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("../docs/docker.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(raw), "## Storage options")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	for _, line := range strings.Split(section, "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 3 && strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			for _, name := range strings.Split(cells[1], ",") { // several may share a row
				documented[strings.Trim(strings.TrimSpace(name), "`")] = true
			}
		}
	}
	known := map[string]bool{}
	for _, o := range options() {
		known[o.key] = true
		require.True(t, documented[o.key], "%s is not in docs/docker.md", o.key)
	}
	for name := range documented {
		require.True(t, known[name], "docs/docker.md has %s, which is no option", name)
	}
}

func TestRoom(t *testing.T) {
	r := rules{leastFree: 10}
	require.NoError(t, r.enough("data", snapshot.Space{Total: 1000, Used: 900}))
	require.ErrorIs(t, r.enough("data", snapshot.Space{Total: 1000, Used: 901}), snapshot.ErrNoSpace)
	require.ErrorIs(t, r.enough("data", snapshot.Space{Total: 1000, Used: 2000}), snapshot.ErrNoSpace)
	require.NoError(t, r.enough("data", snapshot.Space{}), "a driver without a fixed size")
}
