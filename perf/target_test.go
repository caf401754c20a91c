package perf

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTarget(t *testing.T) {
	var r Report
	r.Add("make", Seconds, "ours", 0.002)
	r.Add("make", Seconds, "theirs", 0.05)
	r.Add("make", Seconds, "nothing", 0)
	cell := func(column string) Cell { return Cell{"make", column} }
	tests := map[string]struct {
		target Target
		want   string
	}{
		"met":         {Target{"20x faster", cell("ours"), cell("theirs"), 1.0 / 20}, "target: 20x faster: met (25.0x faster)"},
		"missed":      {Target{"30x faster", cell("ours"), cell("theirs"), 1.0 / 30}, "target: 30x faster: missed (25.0x faster)"},
		"not slower":  {Target{"within 20 %", cell("theirs"), cell("ours"), 1.2}, "target: within 20 %: missed (25.0x)"},
		"not run":     {Target{"it", cell("ours"), cell("absent"), 1}, "target: it: not measured"},
		"unknown row": {Target{"it", Cell{"other", "ours"}, cell("theirs"), 1}, "target: it: not measured"},
		"by nothing":  {Target{"it", cell("ours"), cell("nothing"), 1}, "target: it: not measured"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, test.target.said(&r)) })
	}
}
