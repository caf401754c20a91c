package change

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/perf"
)

func report(row string, unit perf.Unit, samples ...float64) *perf.Report {
	r := &perf.Report{Columns: []perf.Column{{Name: "ours"}}, Machine: perf.Machine{Kernel: "Linux 1"}}
	for _, v := range samples {
		r.Add(row, unit, "ours", v)
	}
	return r
}

func TestVerdicts(t *testing.T) {
	low, high := []float64{1, 1.1, 1.2, 1.05, 1.15, 1.12}, []float64{2, 2.1, 2.2, 2.05, 2.15, 2.12}
	tests := map[string]struct {
		unit          perf.Unit
		before, after []float64
		want          Verdict
	}{
		"slower":                {perf.Seconds, low, high, Worse},
		"faster":                {perf.Seconds, high, low, Better},
		"a greater rate":        {perf.PerSecond, low, high, Better},
		"a lesser rate":         {perf.BytesPerSecond, high, low, Worse},
		"noise":                 {perf.Seconds, low, []float64{1.16, 1.02, 1.13, 1.08, 1.11, 1.09}, Same},
		"the same":              {perf.Seconds, low, low, Same},
		"all equal":             {perf.Seconds, []float64{1, 1, 1, 1}, []float64{1, 1, 1, 1}, Same},
		"too few":               {perf.Seconds, []float64{1, 1.1}, []float64{9, 9.1}, Unknown},
		"a count more":          {perf.Count, []float64{3}, []float64{4}, Worse},
		"a count less":          {perf.Count, []float64{4, 4}, []float64{3}, Better},
		"the same count":        {perf.Count, []float64{3}, []float64{3, 3}, Same},
		"counts with a spread":  {perf.Count, []float64{3, 4}, []float64{4, 5}, Unknown},
		"bytes more":            {perf.Bytes, low, high, Worse},
		"one sample is no test": {perf.Bytes, []float64{1}, []float64{2}, Unknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := Compare(report("r", test.unit, test.before...), report("r", test.unit, test.after...), false)
			require.NoError(t, err)
			require.Len(t, c.Changes, 1)
			assert.Equal(t, test.want, c.Changes[0].Verdict, "p=%g", c.Changes[0].P)
		})
	}
}

// TestElsewhere: figures of different machines are not compared unless that is wanted.
func TestElsewhere(t *testing.T) {
	a, b := report("r", perf.Count, 1), report("r", perf.Count, 2)
	b.Machine.Kernel = "Linux 2"
	_, err := Compare(a, b, false)
	require.ErrorIs(t, err, ErrElsewhere)
	assert.ErrorContains(t, err, "kernel: Linux 1, and Linux 2")
	c, err := Compare(a, b, true)
	require.NoError(t, err)
	assert.Equal(t, []string{"kernel: Linux 1, and Linux 2"}, c.Machines)
	assert.Len(t, c.Changes, 1)

	b = report("r", perf.Count, 2)
	a.Environment, b.Environment = map[string]string{"udev": "running"}, map[string]string{"udev": "none"}
	_, err = Compare(a, b, false)
	assert.ErrorContains(t, err, "udev: running, and none")
}

// TestOnlyInOne: what cannot be compared is named.
func TestOnlyInOne(t *testing.T) {
	a, b := report("old", perf.Count, 1), report("new", perf.Count, 2)
	a.Add("unit", perf.Count, "ours", 1)
	b.Add("unit", perf.Bytes, "ours", 1)
	c, err := Compare(a, b, false)
	require.NoError(t, err)
	assert.Empty(t, c.Changes)
	assert.Equal(t, []string{"old in ours", "unit in ours"}, c.Missing)
	assert.Equal(t, []string{"new in ours", "unit in ours"}, c.New)
}
