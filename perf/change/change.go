package change

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"

	"blockstore.dev/blockstore/perf"
)

// ErrElsewhere: the reports are of different machines, kernels or disks.
var ErrElsewhere = errors.New("the runs were not on the same machine")

// Verdict is what became of a row in a column.
type Verdict string

// The verdicts.
const (
	Better Verdict = "better"
	Worse  Verdict = "worse"
	Same   Verdict = "no difference" // beyond noise
	// Unknown: no number of the samples' order could have shown a difference.
	Unknown Verdict = "too few samples"
)

// Change is what became of one row in one column.
type Change struct {
	Row     string    `json:"row"`
	Column  string    `json:"column"`
	Unit    perf.Unit `json:"unit"`
	Before  float64   `json:"before"` // medians
	After   float64   `json:"after"`
	Samples [2]int    `json:"samples"`
	// P is the probability of such samples if nothing changed; 0 where equality was
	// asked for, and no test.
	P       float64 `json:"p"`
	Verdict Verdict `json:"verdict"`
}

// Comparison is all of two reports.
type Comparison struct {
	Changes []Change `json:"changes"` // in the order of the later report
	// Missing and New are cells, "ROW in COLUMN", that only the earlier or only the
	// later report has.
	Missing []string `json:"missing"`
	New     []string `json:"new"`
	// Machines says in what the machines differ; empty unless that was allowed.
	Machines []string `json:"machines"`
}

// Compare says what changed from before to after. The error is ErrElsewhere if the
// machines differ and anywhere is not set.
func Compare(before, after *perf.Report, anywhere bool) (Comparison, error) {
	c := Comparison{Changes: []Change{}, Missing: []string{}, New: []string{}, Machines: machines(before, after)}
	if len(c.Machines) > 0 && !anywhere {
		return c, fmt.Errorf("%w: %s", ErrElsewhere, strings.Join(c.Machines, "; "))
	}
	old := map[string]*perf.Row{}
	for _, row := range before.Rows {
		old[row.Name] = row
	}
	for _, row := range after.Rows {
		for _, column := range after.Columns {
			now := row.Samples[column.Name]
			then := samplesOf(old[row.Name], row.Unit, column.Name)
			switch {
			case len(now) > 0 && len(then) > 0:
				c.Changes = append(c.Changes, changeOf(row, column.Name, then, now))
			case len(now) > 0:
				c.New = append(c.New, row.Name+" in "+column.Name)
			}
		}
	}
	c.Missing = missing(before, after)
	return c, nil
}

func samplesOf(row *perf.Row, unit perf.Unit, column string) perf.Samples {
	if row == nil || row.Unit != unit {
		return nil
	}
	return row.Samples[column]
}

func missing(before, after *perf.Report) []string {
	now := map[string]*perf.Row{}
	for _, row := range after.Rows {
		now[row.Name] = row
	}
	list := []string{}
	for _, row := range before.Rows {
		for _, column := range before.Columns {
			if len(row.Samples[column.Name]) > 0 && len(samplesOf(now[row.Name], row.Unit, column.Name)) == 0 {
				list = append(list, row.Name+" in "+column.Name)
			}
		}
	}
	return list
}

func changeOf(row *perf.Row, column string, before, after perf.Samples) Change {
	c := Change{
		Row: row.Name, Column: column, Unit: row.Unit, Verdict: Same,
		Before: before.Median(), After: after.Median(), Samples: [2]int{len(before), len(after)},
	}
	differs := c.Before != c.After
	if row.Unit != perf.Count || !constant(before) || !constant(after) {
		limits := benchmath.DefaultThresholds
		test := benchmath.AssumeNothing.Compare(
			benchmath.NewSample(slices.Clone(before), &limits), benchmath.NewSample(slices.Clone(after), &limits))
		c.P = test.P
		// Its warnings: all samples equal, or too few to show anything.
		if test.P > test.Alpha && len(test.Warnings) > 0 && differs {
			c.Verdict = Unknown
		}
		differs = differs && test.P <= test.Alpha
	}
	if differs {
		c.Verdict = Worse
		if (c.After < c.Before) != row.Unit.MoreIsBetter() {
			c.Verdict = Better
		}
	}
	return c
}

func constant(s perf.Samples) bool { return s.Min() == s.Quantile(1) }

// machines says in what two reports' machines differ, whatever their versions are:
// those of what is measured are what a comparison is about.
func machines(before, after *perf.Report) []string {
	a, b := before.Machine, after.Machine
	list := []string{}
	for _, fact := range []struct {
		name string
		a, b any
	}{
		{"kernel", a.Kernel, b.Kernel},
		{"processor", a.Processor, b.Processor},
		{"processors", a.CPUs, b.CPUs},
		{"memory", a.Memory, b.Memory},
		{"disk", a.Disk, b.Disk},
		{"User Mode Linux", a.UML, b.UML},
	} {
		if fact.a != fact.b {
			list = append(list, fmt.Sprintf("%s: %v, and %v", fact.name, fact.a, fact.b))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before.Environment)) {
		if now, ok := after.Environment[name]; ok && now != before.Environment[name] {
			list = append(list, fmt.Sprintf("%s: %s, and %s", name, before.Environment[name], now))
		}
	}
	return list
}
