package fio

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	results, err := parse(`note: both iodepth >= 1 and synchronous I/O engine
{"jobs":[
 {"jobname":"a","error":0,"read":{"total_ios":0},"write":{"total_ios":7,"iops":12.5,"bw_bytes":51200,"lat_ns":{"percentile":{"50.000000":1000,"99.000000":2500}}}},
 {"jobname":"b","error":0,"read":{"total_ios":9,"iops":3,"bw_bytes":4,"lat_ns":{"percentile":{"99.000000":5}}},"write":{"total_ios":0}},
 {"jobname":"c","error":0,"write":{"total_ios":2,"iops":1,"bw_bytes":1,"lat_ns":{"percentile":{"99.000000":5}}},"sync":{"total_ios":2,"lat_ns":{"percentile":{"99.000000":900}}}}]}`)
	require.NoError(t, err)
	assert.Equal(t, []Result{{"a", 12.5, 51200, 2500}, {"b", 3, 4, 5}, {"c", 1, 1, 900}}, results)
}

func TestParseRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "no JSON",
		"{":                                     "fio's JSON",
		`{"jobs":[]}`:                           "no job",
		`{"jobs":[{"jobname":"a","error":28}]}`: "error 28",
		`{"jobs":[{"jobname":"a"}]}`:            "did nothing",
		`{"jobs":[{"jobname":"a","write":{"total_ios":1,"lat_ns":{"percentile":{"50.000":1}}}}]}`: "did nothing",
	} {
		_, err := parse(text)
		assert.ErrorContains(t, err, want, text)
	}
}

// TestRun has fio do all jobs on a small file.
func TestRun(t *testing.T) {
	if _, err := exec.LookPath("fio"); err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp(os.Getenv("BSTEST_DIR"), "bstest-fio-") // direct I/O needs a disk's file system
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20), 0o600))
	for j, parts := range map[Job]int{
		{File: Database, Requests: 10}: 1, {File: Queue, Requests: 10}: 1,
		{File: Steady, Time: 100 * time.Millisecond}: 6, {File: Steady, Part: "write", Requests: 10}: 1,
	} {
		j.Dir, j.Size = dir, 1<<20
		results, err := Run(t.Context(), j)
		require.NoError(t, err)
		require.Len(t, results, parts, j.File)
		for _, r := range results {
			assert.Positive(t, r.Requests, r.Name)
			assert.Positive(t, r.Latency, r.Name)
		}
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "fio leaves nothing beside the file")
	_, err = Run(t.Context(), Job{File: Database, Dir: dir + "/missing", Size: 1 << 20, Requests: 1})
	assert.Error(t, err)
}
