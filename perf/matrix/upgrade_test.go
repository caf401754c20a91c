package matrix

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/perf"
)

// TestRelease: of the package's files a third changes, large and small ones.
func TestRelease(t *testing.T) {
	older, newer := whole().release(1), whole().release(2)
	require.Len(t, newer, 2004)
	changed := 0
	for i, f := range newer {
		assert.Equal(t, older[i].name, f.name)
		assert.Equal(t, older[i].size, f.size)
		assert.Equal(t, f.changes(), older[i].seed != f.seed, f.name)
		if f.changes() {
			changed++
		}
	}
	assert.InDelta(t, len(newer)/3, changed, 1)
	total, different := sizeOf(newer, nil), sizeOf(newer, debFile.changes)
	assert.InDelta(t, 56<<20, total, 4<<20)
	assert.InDelta(t, float64(total)/3, different, float64(total)/20)
}

// TestDpkg: the package is one that dpkg upgrades, and its bytes are always the same.
func TestDpkg(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("dpkg installs as root only")
	}
	scale := Scale{FileSize: mebibyte, Files: 100}
	root, dir := t.TempDir(), t.TempDir()
	require.NoError(t, dpkgState(root))
	for i, version := range []string{"1", "2"} {
		files := scale.release(i + 1)
		deb, again := filepath.Join(dir, version+".deb"), filepath.Join(dir, "again.deb")
		require.NoError(t, writeDeb(deb, version, files))
		require.NoError(t, writeDeb(again, version, files))
		a, err := os.ReadFile(deb)
		require.NoError(t, err)
		b, err := os.ReadFile(again)
		require.NoError(t, err)
		require.Equal(t, a, b)
		require.NoError(t, dpkg(t.Context(), root, deb))
		for _, f := range files {
			have, err := os.ReadFile(filepath.Join(root, f.name))
			require.NoError(t, err)
			want, err := io.ReadAll(io.LimitReader(f.content(), f.size))
			require.NoError(t, err)
			require.Equal(t, want, have, f.name)
		}
		status, err := os.ReadFile(filepath.Join(root, "var/lib/dpkg/status"))
		require.NoError(t, err)
		assert.Contains(t, string(status), "Status: install ok installed")
		assert.Contains(t, string(status), "Version: "+version+"\n")
	}
	require.ErrorContains(t, dpkg(t.Context(), root, filepath.Join(dir, "none.deb")), "none.deb")
}

// TestWithoutDpkg: the report says what is left out, once for all peers.
func TestWithoutDpkg(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s := &stand{report: &perf.Report{}, workload: workload{name: "W10"}}
	for range 2 {
		require.NoError(t, s.packagedLayer(t.Context()))
		require.NoError(t, s.upgrade(t.Context(), 0))
	}
	require.Len(t, s.report.NotRun, 1)
	assert.True(t, strings.HasSuffix(s.report.NotRun[0].Reason, "dpkg is not installed"))
}
