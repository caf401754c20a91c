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

func TestQuantile(t *testing.T) {
	s := Samples{5, 1, 3, 2, 4}
	assert.Equal(t, 1.0, s.Quantile(0))
	assert.Equal(t, 2.0, s.Quantile(0.25))
	assert.Equal(t, 3.0, s.Quantile(0.5))
	assert.Equal(t, 5.0, s.Quantile(1))
	assert.Equal(t, 1.5, Samples{1, 2}.Quantile(0.5))
	assert.Zero(t, Samples(nil).Quantile(0.5))
}
