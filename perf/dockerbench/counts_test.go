package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/perf"
)

// TestTraced: what a daemon calls and starts for a command is counted, and what the command itself does is not.
func TestTraced(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	require.NoError(t, exec.Command("mkfifo", filepath.Join(dir, "ask"), filepath.Join(dir, "answer")).Run())
	daemon, err := start(filepath.Join(dir, "log"), "sh", "-c", `cd "$1"; while read -r line <ask; do sync log; echo done >answer; done`, "sh", dir)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, daemon.stop()) })
	p := &peer{name: "a", dir: dir, daemon: daemon, report: &perf.Report{}, counted: &perf.Report{}}
	const row = "asking"
	p.counted.Add(row, perf.Seconds, p.name, 1)
	for range 2 {
		command := exec.Command("sh", "-c", `cd "$1"; sync log; echo go >ask; read -r line <answer; echo $line`, "sh", dir)
		out, c, err := p.timed(command)
		require.NoError(t, err)
		assert.Equal(t, "done", out)
		p.add(row, c, 1)
	}
	for part, want := range map[string]float64{"programs started": 1, "waits for the disk": 1, "ioctls": 0} {
		found := false
		for _, r := range p.counted.Rows {
			if r.Name == row+": dockerd and its plugin: "+part {
				found = true
				assert.Equal(t, want, r.Samples[p.name].Median(), part)
				assert.Len(t, r.Samples[p.name], 2)
			}
		}
		assert.True(t, found, part)
	}
}

// TestTracedNobody: what cannot be attached to is an error that says why.
func TestTracedNobody(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	_, err := attach(filepath.Join(t.TempDir(), "trace"), []int{1 << 22})
	assert.ErrorContains(t, err, "strace ended")
	assert.ErrorContains(t, err, "No such process")
}
