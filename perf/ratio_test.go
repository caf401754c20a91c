package perf

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRatio(t *testing.T) {
	for name, c := range map[string]struct {
		subject, other Samples
		value          float64
		differs        bool
	}{
		"apart":          {Samples{1, 1.1, 0.9, 1, 1}, Samples{2, 2.2, 1.8, 2, 2}, 0.5, true},
		"the same":       {Samples{1, 2, 3, 4, 5}, Samples{1, 2, 3, 4, 5}, 1, false},
		"lost in spread": {Samples{1, 9, 2, 8, 3}, Samples{2, 8, 4, 7, 1}, 0.75, false},
		"one sample":     {Samples{3}, Samples{1}, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			r, ok := RatioOf(c.subject, c.other)
			require.True(t, ok)
			assert.InDelta(t, c.value, r.Value, 1e-9)
			assert.LessOrEqual(t, r.Low, r.Value)
			assert.GreaterOrEqual(t, r.High, r.Value)
			assert.Equal(t, c.differs, r.Differs())
			again, _ := RatioOf(c.subject, c.other)
			assert.Equal(t, r, again, "the draws are the same each time")
		})
	}
}

// TestNoRatio: nothing is divided by what was not measured, or by zero.
func TestNoRatio(t *testing.T) {
	for name, sides := range map[string][2]Samples{
		"no subject": {nil, {1}}, "no other": {{1}, nil}, "nothing to divide by": {{1}, {0}},
	} {
		_, ok := RatioOf(sides[0], sides[1])
		assert.False(t, ok, name)
	}
}
