package btrfsvol_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/btrfsvol"
)

// TestFormatTriesAgain: a loop device of somebody else's that goes away while mkfs.btrfs looks at it is no matter of ours.
// What mkfs says then is of btrfs-progs 6.2.
func TestFormatTriesAgain(t *testing.T) {
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	mkfs := func(fails, complaint string) (tries int, err error) {
		script := `#!/bin/sh
echo x >>` + count + `
[ $(wc -l <` + count + `) -gt ` + fails + ` ] && exit
echo "ERROR: ` + complaint + `" >&2
exit 1
`
		require.NoError(t, os.WriteFile(filepath.Join(dir, "mkfs.btrfs"), []byte(script), 0o700))
		require.NoError(t, os.WriteFile(count, nil, 0o600))
		err = btrfsvol.Format(t.Context(), "disk.img", btrfsvol.FormatOptions{})
		b, rerr := os.ReadFile(count)
		require.NoError(t, rerr)
		return strings.Count(string(b), "x"), err
	}
	gone := "cannot check mount status of disk.img: No such device or address"
	tries, err := mkfs("2", gone)
	require.NoError(t, err)
	require.Equal(t, 3, tries)
	tries, err = mkfs("100", gone)
	require.ErrorContains(t, err, gone)
	require.Equal(t, 5, tries)
	tries, err = mkfs("100", "disk.img is mounted")
	require.ErrorContains(t, err, "is mounted")
	require.Equal(t, 1, tries, "that stays so")
}
