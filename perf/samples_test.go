package perf

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSamples(t *testing.T) {
	tests := map[string]struct {
		samples     Samples
		min, median float64
	}{
		"none":      {nil, 0, 0},
		"one":       {Samples{3}, 3, 3},
		"odd":       {Samples{9, 1, 4}, 1, 4},
		"even":      {Samples{8, 2, 4, 6}, 2, 5},
		"one stray": {Samples{1, 1, 1, 1, 100}, 1, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := append(Samples(nil), test.samples...)
			assert.Equal(t, test.min, test.samples.Min())
			assert.Equal(t, test.median, test.samples.Median())
			assert.Equal(t, before, test.samples, "they stay in the order in which they were taken")
		})
	}
}
