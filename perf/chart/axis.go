package chart

import (
	"math"
	"strings"
	"unicode"

	"gonum.org/v1/plot"

	"blockstore.dev/blockstore/perf"
)

// manyTicks is how many marks with text an axis has at most.
const manyTicks = 7

// wide says whether values lie so far apart that only a logarithmic axis shows them
// all. Values that are not above 0 have no place on one.
func wide(values perf.Samples, times float64) bool {
	return len(values) > 0 && values.Min() > 0 && values.Quantile(1) >= times*values.Min()
}

// logTicks are marks at powers of 10, or of 2 for bytes, as many as fit.
func logTicks(unit perf.Unit) plot.TickerFunc {
	return func(low, high float64) []plot.Tick {
		base, steps := 10.0, []float64{1}
		if isBytes(unit) {
			base = 2
		} else if high/low < 1e3 {
			steps = []float64{1, 2, 5}
		}
		first, last := math.Floor(math.Log(low)/math.Log(base)), math.Ceil(math.Log(high)/math.Log(base))
		every := math.Max(1, math.Ceil((last-first+1)*float64(len(steps))/manyTicks/float64(len(steps))))
		var ticks []plot.Tick
		for power := first; power <= last; power++ {
			for _, step := range steps {
				v := step * math.Pow(base, power)
				if v < low*(1-1e-9) || v > high*(1+1e-9) {
					continue
				}
				tick := plot.Tick{Value: v}
				if math.Mod(power, every) == 0 {
					tick.Label = tickText(unit, v)
				}
				ticks = append(ticks, tick)
			}
		}
		return ticks
	}
}

// linearTicks are marks at round values.
func linearTicks(unit perf.Unit) plot.TickerFunc {
	return func(low, high float64) []plot.Tick {
		step := roundStep((high-low)/(manyTicks-2), isBytes(unit))
		var ticks []plot.Tick
		for n := math.Ceil(low / step); n*step <= high && len(ticks) <= 2*manyTicks; n++ {
			ticks = append(ticks, plot.Tick{Value: n * step, Label: tickText(unit, n*step)})
		}
		return ticks
	}
}

// roundStep is the next round number from least on: a power of 2, or 1, 2 or 5 times
// a power of 10.
func roundStep(least float64, binary bool) float64 {
	if binary {
		return math.Pow(2, math.Ceil(math.Log2(least)))
	}
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, step := range []float64{1, 2, 5} {
		if step*power >= least {
			return step * power
		}
	}
	return 10 * power
}

func isBytes(unit perf.Unit) bool { return unit == perf.Bytes || unit == perf.BytesPerSecond }

// tickText is a value with its unit and without digits that say nothing.
func tickText(unit perf.Unit, v float64) string {
	if v == 0 {
		return "0"
	}
	text := unit.Text(v)
	end := strings.IndexFunc(text, func(r rune) bool { return r != '.' && r != '-' && !unicode.IsDigit(r) })
	if end < 0 {
		end = len(text)
	}
	number, name := text[:end], text[end:]
	if strings.Contains(number, ".") {
		number = strings.TrimRight(strings.TrimRight(number, "0"), ".")
	}
	return number + name
}

// axisLabel is what an axis of the unit shows.
func axisLabel(unit perf.Unit, logarithmic bool) string {
	label := map[perf.Unit]string{
		perf.Seconds: "time", perf.Bytes: "bytes", perf.Count: "count",
		perf.PerSecond: "operations per second", perf.BytesPerSecond: "bytes per second",
	}[unit]
	if label == "" {
		label = string(unit)
	}
	if unit.MoreIsBetter() {
		label += ", more is better"
	} else {
		label += ", less is better"
	}
	if logarithmic {
		label += " (logarithmic)"
	}
	return label
}
