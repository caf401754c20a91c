package perf

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func exampleReport() *Report {
	r := &Report{
		Title: "Example", Command: []string{"bench", "--rounds", "2"}, Begun: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
		Machine:  Machine{Kernel: "Linux 1.0", Processor: "Abacus", CPUs: 2, Memory: 1 << 30, Load: "0 0 0", Disk: "ext4 on disk"},
		Versions: map[string]string{"b": "2", "a": "1"},
		Columns:  []Column{{"rival", "on sand"}, {"ours", "on rock"}},
		Subject:  "ours", Against: []string{"rival", "absent"},
		Notes: []string{"Mind the gap."},
	}
	r.Add("write", Seconds, "rival", 0.5)
	r.Add("size", Bytes, "rival", 4096)
	r.Add("write", Seconds, "ours", 0.001)
	r.Add("write", Seconds, "ours", 0.003)
	return r
}

const exampleText = `## Example

- command: ` + "`bench --rounds 2`" + `, begun 2026-01-02 03:04 UTC
- machine: Linux 1.0; Abacus, 2 CPUs, 1.0 GiB; load 0 0 0; work on ext4 on disk
- versions: a 1; b 2
- rival: on sand
- ours: on rock
- cells: the median, with the minimum in brackets

| measure |             rival |           ours | ours against rival |
|---------|------------------:|---------------:|-------------------:|
| write   |      500 ms (500) | 2.00 ms (1.00) |        250x faster |
| size    | 4.0 KiB (4.0 KiB) |                |                    |

Mind the gap.
`

func TestText(t *testing.T) {
	var b strings.Builder
	require.NoError(t, exampleReport().WriteText(&b))
	assert.Equal(t, exampleText, b.String())
}

// TestTextWithoutSubject: rivals alone are shown without ratios.
func TestTextWithoutSubject(t *testing.T) {
	r := exampleReport()
	r.Columns = r.Columns[:1]
	assert.Equal(t, [][]string{
		{"measure", "rival"}, {"write", "500 ms (500)"}, {"size", "4.0 KiB (4.0 KiB)"},
	}, r.table())
}

// TestJSON: every sample is kept, in its order.
func TestJSON(t *testing.T) {
	var b strings.Builder
	r := exampleReport()
	require.NoError(t, r.WriteJSON(&b))
	var back Report
	require.NoError(t, json.Unmarshal([]byte(b.String()), &back))
	assert.Equal(t, r, &back)
	assert.Equal(t, Samples{0.001, 0.003}, back.Rows[0].Samples["ours"])
}

// TestParts: a part stands behind its whole, even when others came in between.
func TestParts(t *testing.T) {
	r := exampleReport()
	for range 2 {
		r.AddPart("write", "in the kernel", Seconds, "ours", 0.001)
	}
	var names []string
	for _, row := range r.Rows {
		names = append(names, row.Name)
	}
	assert.Equal(t, []string{"write", "write: in the kernel", "size"}, names)
	assert.Len(t, r.Rows[1].Samples["ours"], 2)
}

// TestJSONLines: samples stand on one line, and what is read is what was written. A text that looks like numbers stays as it is.
func TestJSONLines(t *testing.T) {
	r := exampleReport()
	r.Notes = []string{"[\n  1,\n  2\n]", "a\n[\n1]"}
	r.Add("write", Seconds, "ours", 1e-9)
	var b strings.Builder
	require.NoError(t, r.WriteJSON(&b))
	assert.Contains(t, b.String(), `"ours": [0.001,0.003,1e-9]`)
	assert.Contains(t, b.String(), `"rival": [4096]`)
	again, err := Read(strings.NewReader(b.String()))
	require.NoError(t, err)
	assert.Equal(t, r, again)
}

// TestStopped: of a run that ended early the report says so, and there is none of one that measured nothing.
func TestStopped(t *testing.T) {
	broken := errors.New("the disk is gone")
	r, err := (&Report{}).Stopped(broken)
	require.ErrorIs(t, err, broken)
	require.Nil(t, r)
	r, err = exampleReport().Stopped(broken)
	require.ErrorIs(t, err, broken)
	var text strings.Builder
	require.NoError(t, r.WriteText(&text))
	require.Contains(t, text.String(), "- not run: the rest: the disk is gone\n")
}

// TestKeep: what is kept of a run can be read, says that it is not all, and is no part of what is delivered.
func TestKeep(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	r := exampleReport()
	require.NoError(t, r.Keep(""))
	require.NoError(t, (&Report{}).Keep(file))
	require.NoFileExists(t, file, "there is nothing to keep")
	require.NoError(t, r.Keep(os.DevNull))
	require.NoFileExists(t, os.DevNull+".new")
	require.NoError(t, r.Keep(file))
	require.NoFileExists(t, file+".new")
	read := func() Report {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var got Report
		require.NoError(t, json.Unmarshal(text, &got))
		return got
	}
	require.Equal(t, "the rest", read().NotRun[0].Workload)
	require.Len(t, read().Rows, len(r.Rows))
	require.NoError(t, r.Deliver(io.Discard, false, file))
	require.Empty(t, read().NotRun)
}
