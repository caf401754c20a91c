package perf

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCell(t *testing.T) {
	tests := map[string]struct {
		unit    Unit
		samples Samples
		want    string
	}{
		"nothing":            {Seconds, nil, ""},
		"seconds":            {Seconds, Samples{12.345, 1.5, 123.4}, "12.3 s (1.50)"},
		"milliseconds":       {Seconds, Samples{0.0123, 0.0001}, "6.20 ms (0.100)"},
		"microseconds":       {Seconds, Samples{0.000345}, "345 µs (345)"},
		"zero":               {Seconds, Samples{0}, "0 µs (0)"},
		"counts":             {Count, Samples{3, 4, 4}, "4 (3)"},
		"equal counts":       {Count, Samples{4, 4, 4}, "4"},
		"bytes":              {Bytes, Samples{4096, 1 << 30}, "512 MiB (4.0 KiB)"},
		"a rate":             {PerSecond, Samples{1500, 900, 2100}, "1500/s (2100)"},
		"a rate of bytes":    {BytesPerSecond, Samples{1 << 20, 1 << 30}, "513 MiB/s (1.0 GiB)"},
		"times":              {Times, Samples{16.04, 18}, "17.0x (16.0)"},
		"bytes that went":    {Bytes, Samples{-4096}, "-4.0 KiB (-4.0 KiB)"},
		"far below the unit": {Seconds, Samples{0.0000001, 2, 2}, "2.00 s (0.000)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, test.unit.cell(test.samples, false)) })
	}
}

func TestCellWithQuartiles(t *testing.T) {
	assert.Equal(t, "3.00 ms (2.00 to 4.00)", Seconds.cell(Samples{0.005, 0.001, 0.003, 0.002, 0.004}, true))
	assert.Equal(t, "3.0 KiB (2.0 KiB to 4.0 KiB)", Bytes.cell(Samples{1024, 2048, 3072, 4096, 5120}, true))
	assert.Equal(t, "7", Count.cell(Samples{7, 7}, true))
	assert.Empty(t, Count.cell(nil, true))
}

func TestRatioText(t *testing.T) {
	tests := map[string]struct {
		unit          Unit
		mine, another Samples
		want          string
	}{
		"faster":           {Seconds, Samples{0.002}, Samples{0.1, 0.3}, "100x faster"},
		"slower":           {Seconds, Samples{3}, Samples{2}, "1.50x slower"},
		"the same":         {Seconds, Samples{3}, Samples{3}, "1.00x faster"},
		"a higher rate":    {PerSecond, Samples{300}, Samples{100}, "3.00x faster"},
		"a lower rate":     {BytesPerSecond, Samples{100}, Samples{300}, "3.00x slower"},
		"less":             {Bytes, Samples{4096}, Samples{1 << 30}, "262144x less"},
		"more":             {Bytes, Samples{8192}, Samples{4096}, "2.00x more"},
		"we took no part":  {Seconds, nil, Samples{3}, ""},
		"nothing was used": {Bytes, Samples{4096}, Samples{0}, ""},
		"less than before": {Bytes, Samples{-1}, Samples{4096}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, test.unit.ratio(test.mine, test.another, false)) })
	}
}

// TestRatioTextWithInterval: what the run cannot tell apart is not called faster.
func TestRatioTextWithInterval(t *testing.T) {
	assert.Equal(t, "2.00x faster (2.00 to 2.00)", Seconds.ratio(Samples{1, 1, 1}, Samples{2, 2, 2}, true))
	assert.Equal(t, "2.00x slower (2.00 to 2.00)", PerSecond.ratio(Samples{1, 1, 1}, Samples{2, 2, 2}, true))
	assert.Equal(t, "1.00x more (1.00 to 1.00)", Count.ratio(Samples{1002}, Samples{1000}, true))
	assert.Regexp(t, `^no difference \(0\.\d+ to [1-9]`, Seconds.ratio(Samples{1, 2, 3}, Samples{1, 2, 3}, true))
}
