package perf

import "slices"

// Samples are the values of one measure, in the order in which they were taken.
type Samples []float64

// Min is the least sample: what the work costs when nothing disturbs it. It is 0
// for no samples.
func (s Samples) Min() float64 {
	if len(s) == 0 {
		return 0
	}
	return slices.Min(s)
}

// Median is the middle sample, or the mean of the middle two. It is 0 for no
// samples.
func (s Samples) Median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Quantile is the value below which the part q of the samples lies, from 0 to 1,
// between two samples in proportion. It is 0 for no samples.
func (s Samples) Quantile(q float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	at := q * float64(len(sorted)-1)
	below := int(at)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (sorted[above]-sorted[below])*(at-float64(below))
}
