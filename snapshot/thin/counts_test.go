package thin_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot/drivertest"
)

// TestStoreCounts sees what a container costs: to create it, one message and its
// status; to mount it, one device; and no waiting for the disk but the catalog's.
func TestStoreCounts(t *testing.T) {
	calls := drivertest.RunCounts(t, factory("ext4"))
	require.Equal(t, drivertest.Tally{"DM_TARGET_MSG": 1, "DM_TABLE_STATUS": 1, "fdatasync": 1}, calls["create"])
	require.Equal(t, drivertest.Tally{"DM_DEV_CREATE": 1, "DM_TABLE_LOAD": 1, "DM_DEV_SUSPEND": 1, "mount": 1}, calls["mount"])
	require.Equal(t, drivertest.Tally{"umount2": 1, "DM_DEV_REMOVE": 1}, calls["unmount"])
	require.Equal(t, calls["create"]["DM_TARGET_MSG"], calls["freeze"]["DM_TARGET_MSG"], "what Docker creates a container on is frozen by the way")
	require.LessOrEqual(t, calls["freeze"]["DM_DEV_STATUS"]+calls["freeze"]["DM_TABLE_STATUS"], 2, "the parent is looked at, whether it is in use")
	layer := calls["layer"]
	require.Equal(t, 1, layer["DM_TARGET_MSG"], "the snapshot that is gone on with commits the layer")
	require.Equal(t, 1, layer["DM_DEV_REMOVE"], "the device goes once, and is not made again to be looked at")
	require.Zero(t, layer["DM_DEV_SUSPEND"])
	require.Zero(t, layer["DM_DEV_CREATE"], "it is known to be there")
	require.Equal(t, drivertest.Tally{"DM_DEV_STATUS": 1, "DM_TABLE_STATUS": 1, "mount": 1}, calls["prepared"], "the device of a spare is there, and looked at")
	for name, tally := range calls {
		require.Zero(t, tally["fsync"]+tally["sync"]+tally["syncfs"], "syncs of %s", name)
	}
}
