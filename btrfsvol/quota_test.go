package btrfsvol

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
)

func withSimpleQuota(t *testing.T) *FS {
	t.Helper()
	fs := newFS(t)
	supported, err := fs.SimpleQuotaSupported()
	require.NoError(t, err)
	if !supported {
		t.Skip("no simple quotas in this kernel (Linux 6.7)")
	}
	require.NoError(t, fs.EnableSimpleQuota())
	return fs
}

func TestQuotaMode(t *testing.T) {
	fs := newFS(t)
	mode, err := fs.QuotaMode()
	require.NoError(t, err)
	require.Equal(t, QuotaOff, mode)
	groups, err := fs.Qgroups(1)
	require.NoError(t, err)
	require.Empty(t, groups)

	require.NoError(t, ioctl.BtrfsQuotaCtl(fs.fd, ioctl.BTRFS_QUOTA_CTL_ENABLE))
	mode, err = fs.QuotaMode()
	require.NoError(t, err)
	require.Equal(t, QuotaFull, mode)
	_, err = fs.QuotaInconsistent()
	require.NoError(t, err)

	_, err = parseQuotaMode("new")
	require.ErrorContains(t, err, `"new"`)
}

func TestLimit(t *testing.T) {
	fs := withSimpleQuota(t)
	mode, err := fs.QuotaMode()
	require.NoError(t, err)
	require.Equal(t, QuotaSimple, mode)
	create(t, fs, "image")
	fill(t, fs, "image/file", 8<<20)

	group := Qgroup(1, 27)
	require.NoError(t, fs.CreateQgroup(group))
	require.ErrorIs(t, fs.CreateQgroup(group), ErrExists)
	require.NoError(t, fs.LimitQgroup(group, 4<<20))
	require.NoError(t, fs.Snapshot("image", "box", CreateOptions{Qgroups: []QgroupID{group}}))
	box := idOf(t, fs, "box")

	usage, err := fs.QgroupUsage(group)
	require.NoError(t, err)
	require.Equal(t, Bytes(4<<20), usage.Limit)
	require.Less(t, usage.Referenced, Bytes(1<<20), "the image's bytes are not the container's")
	groups, err := fs.Qgroups(1)
	require.NoError(t, err)
	require.Equal(t, map[QgroupID][]QgroupID{group: {QgroupID(box)}}, groups)

	fill(t, fs, "box/fits", 2<<20)
	err = os.WriteFile(filepath.Join(fs.Dir(), "box/large"), make([]byte, 3<<20), 0o600)
	require.ErrorIs(t, err, unix.EDQUOT)
	require.ErrorIs(t, wrap(err, "write"), ErrNoSpace)

	// Another subvolume, made inside, does not get round the limit.
	require.NoError(t, os.Remove(filepath.Join(fs.Dir(), "box/large")))
	create(t, fs, "box/nested")
	err = os.WriteFile(filepath.Join(fs.Dir(), "box/nested/large"), make([]byte, 3<<20), 0o600)
	require.ErrorIs(t, err, unix.EDQUOT)

	require.NoError(t, fs.LimitQgroup(group, NoLimit))
	usage, err = fs.QgroupUsage(group)
	require.NoError(t, err)
	require.Equal(t, NoLimit, usage.Limit)
	fill(t, fs, "box/large", 3<<20)
	removeWithGroup(t, fs, box, group)
}

// removeWithGroup deletes a subvolume and then its group.
func removeWithGroup(t *testing.T, fs *FS, id SubvolumeID, group QgroupID) {
	t.Helper()
	deleted, err := fs.Delete(id)
	require.NoError(t, err)
	for _, id := range deleted {
		require.NoError(t, fs.LeaveQgroup(QgroupID(id), group))
	}
	require.NoError(t, fs.RemoveQgroup(group))
	require.NoError(t, fs.Sync())
	require.NoError(t, fs.WaitGone(t.Context(), deleted...))
	groups, err := fs.Qgroups(1)
	require.NoError(t, err)
	require.Empty(t, groups)
}
