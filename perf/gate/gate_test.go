package gate

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/perf"
)

func run(ioctls ...float64) *perf.Report {
	r := &perf.Report{
		Title: "a run", Machine: perf.Machine{Kernel: "Linux 1"}, Subject: "blockstore/btrfs",
		Columns: []perf.Column{{Name: "btrfs"}, {Name: "blockstore/btrfs"}, {Name: "blockstores"}},
	}
	for _, c := range r.Columns {
		r.Add("create", perf.Seconds, c.Name, 1)
		r.AddPart("create", "programs", perf.Count, c.Name, 0)
		for _, v := range ioctls {
			r.AddPart("create", "ioctls", perf.Count, c.Name, v)
		}
		for _, v := range []float64{4000, 4096} {
			r.AddPart("create", "written", perf.Bytes, c.Name, v)
		}
		for _, v := range []float64{1, 2} {
			r.AddPart("create", "read", perf.Bytes, c.Name, v)
		}
	}
	return r
}

// TestNew: the subject's counts and stable bytes, no times and no rivals.
func TestNew(t *testing.T) {
	want := Baseline{Of: "a run", Kernel: "Linux 1", Limits: []Limit{
		{"create: written", "blockstore/btrfs", perf.Bytes, 4506},
		{"create: ioctls", "blockstore/btrfs", perf.Count, 3},
		{"create: programs", "blockstore/btrfs", perf.Count, 0},
	}}
	got := New(run(3, 4))
	assert.Equal(t, want.Of, got.Of)
	assert.ElementsMatch(t, want.Limits, got.Limits)

	var b bytes.Buffer
	require.NoError(t, got.Write(&b))
	back, err := Read(bytes.NewReader(b.Bytes()))
	require.NoError(t, err)
	assert.Equal(t, got, back)
	whole := strings.TrimSpace(b.String())
	for n := range whole {
		_, err := Read(strings.NewReader(whole[:n]))
		require.ErrorIs(t, err, ErrNotBaseline, "cut after %d bytes", n)
	}
	assert.Equal(t, len(got.Limits)+2, strings.Count(b.String(), "\n"), "a limit to a line")
}

// TestRenew: what was forbidden stays so where nobody does it any more, and what is done less has the lower limit.
func TestRenew(t *testing.T) {
	old := New(run(3))
	quiet := run(2)
	quiet.DropEmptyParts()
	require.False(t, quiet.Has("create: programs"))
	got := old.Renew(quiet)
	assert.Contains(t, got.Limits, Limit{"create: programs", "blockstore/btrfs", perf.Count, 0})
	assert.Contains(t, got.Limits, Limit{"create: ioctls", "blockstore/btrfs", perf.Count, 2})
	assert.Len(t, got.Limits, len(old.Limits))
	assert.Equal(t, got, got.Renew(quiet))
}

func TestCheck(t *testing.T) {
	baseline := New(run(3, 3))
	assert.Equal(t, Result{Checked: 3, Broken: []Finding{}, Less: []Finding{}}, baseline.Check(run(3)))

	more := baseline.Check(run(5))
	require.Len(t, more.Broken, 1)
	assert.Equal(t, "create: ioctls", more.Broken[0].Row)
	assert.Equal(t, 5.0, more.Broken[0].Is)

	less := baseline.Check(run(2))
	assert.Empty(t, less.Broken)
	require.Len(t, less.Less, 1)
	assert.Equal(t, 2.0, less.Less[0].Is)

	assert.Empty(t, baseline.Check(run(5), run(3), run(4)).Broken, "one quiet run is enough")
	assert.Len(t, baseline.Check(run(5), run(4)).Broken, 1)

	gone := baseline.Check(run())
	require.Len(t, gone.Broken, 1)
	assert.True(t, gone.Broken[0].Missing)
}

// TestZero: a limit of 0 is kept by who has no such row, and by nobody who counts.
func TestZero(t *testing.T) {
	baseline := New(run(1), run())
	assert.Equal(t, 0.0, baseline.Limits[len(baseline.Limits)-1].AtMost)
	assert.Empty(t, baseline.Check(run()).Broken)
	assert.Len(t, baseline.Check(run(1)).Broken, 1)
}

// TestUnknown: what nobody did when the baseline was made is found, unless only some
// of the runs do it.
func TestUnknown(t *testing.T) {
	baseline := New(run(), run())
	assert.Len(t, baseline.Limits, 2)
	found := baseline.Check(run(1), run(1)).Broken
	require.Len(t, found, 1)
	assert.Equal(t, Finding{Limit: Limit{Row: "create: ioctls", Column: "blockstore/btrfs", Unit: perf.Count}, Is: 1, Unknown: true}, found[0])
	assert.Empty(t, baseline.Check(run(1), run()).Broken)
	assert.Empty(t, baseline.Check(run(0)).Broken)
}

func TestReadHostile(t *testing.T) {
	for name, text := range map[string]string{
		"a report":    `{"title":"x","rows":[]}`,
		"no row":      `{"limits":[{"column":"a","unit":"count","at_most":1}]}`,
		"a time":      `{"limits":[{"row":"r","column":"a","unit":"seconds","at_most":1}]}`,
		"not numbers": `{"limits":[{"row":"r","column":"a","unit":"count","at_most":"1"}]}`,
		"too long":    strings.Repeat(" ", maxBaseline+1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(strings.NewReader(text))
			assert.ErrorIs(t, err, ErrNotBaseline)
		})
	}
}
