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
	r.Add("take", Bytes, "ours", 64<<10)
	r.Add("take", Bytes, "theirs", 64<<20)
	for i := range 20 {
		r.Add("rate", PerSecond, "ours", 90+float64(i))
		r.Add("rate", PerSecond, "theirs", 95+float64(i))
	}
	rate := func(atMost float64) Target {
		return Target{"rate", Cell{"rate", "theirs"}, Cell{"rate", "ours"}, atMost}
	}
	cell := func(column string) Cell { return Cell{"make", column} }
	tests := map[string]struct {
		target Target
		want   string
	}{
		"met":         {Target{"20x faster", cell("ours"), cell("theirs"), 1.0 / 20}, "target: 20x faster: met (25.0x faster)"},
		"missed":      {Target{"30x faster", cell("ours"), cell("theirs"), 1.0 / 30}, "target: 30x faster: missed (25.0x faster)"},
		"not slower":  {Target{"within 20 %", cell("theirs"), cell("ours"), 1.2}, "target: within 20 %: missed (25.0x)"},
		"less":        {Target{"1,000x less", Cell{"take", "ours"}, Cell{"take", "theirs"}, 1.0 / 1000}, "target: 1,000x less: met (1024x less)"},
		"itself":      {Target{Text: "at most 60 KiB", Cell: Cell{"take", "ours"}, AtMost: 60 << 10}, "target: at most 60 KiB: missed (64 KiB)"},
		"not run":     {Target{"it", cell("ours"), cell("absent"), 1}, "target: it: not measured"},
		"unknown row": {Target{"it", Cell{"other", "ours"}, cell("theirs"), 1}, "target: it: not measured"},
		"and why": {Target{"docker create: as fast", cell("theirs"), cell("ours"), 1}, "target: docker create: as fast: missed (25.0x). A plugin that stores " +
			"nothing takes as long as overlay2, and ours mounts what dockerd asks for and waits once for its catalog on the disk"},
		"met, of those that are missed elsewhere": {Target{"docker create: as fast", cell("ours"), cell("theirs"), 1}, "target: docker create: as fast: met (0.040x)"},
		"missed within noise":                     {rate(1.04), "target: rate: missed within noise (1.05x, 0.995 to 1.11)"},
		"met within noise":                        {rate(1.07), "target: rate: met within noise (1.05x, 0.995 to 1.11)"},
		"met beyond noise":                        {rate(1.5), "target: rate: met (1.05x, 0.995 to 1.11)"},
		"times faster":                            {rate(0.5), "target: rate: missed (0.952x faster, 0.899 to 1.00)"},
		"by nothing":                              {Target{"it", cell("ours"), cell("nothing"), 1}, "target: it: not measured"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, test.target.said(&r)) })
	}
}
