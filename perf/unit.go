package perf

import (
	"fmt"
	"math"
	"strconv"

	"github.com/dustin/go-humanize"
)

// Unit is what a row's samples are counted in.
type Unit string

// The units.
const (
	Seconds Unit = "seconds"
	Bytes   Unit = "bytes"
)

// cell writes a median with the minimum in brackets. Both are in the median's
// unit, so that they can be compared at a glance.
func (u Unit) cell(s Samples) string {
	if len(s) == 0 {
		return ""
	}
	if u == Bytes {
		return fmt.Sprintf("%s (%s)", bytesText(s.Median()), bytesText(s.Min()))
	}
	scale, name := 1.0, "s"
	switch median := s.Median(); {
	case median < 1e-3:
		scale, name = 1e6, "µs"
	case median < 1:
		scale, name = 1e3, "ms"
	}
	return fmt.Sprintf("%s %s (%s)", digits(s.Median()*scale), name, digits(s.Min()*scale))
}

func bytesText(v float64) string {
	if v < 0 {
		return "-" + humanize.IBytes(uint64(-v))
	}
	return humanize.IBytes(uint64(v))
}

// digits writes three significant digits: more than that no run repeats.
func digits(v float64) string {
	if v == 0 || math.Abs(v) >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	decimals := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	return strconv.FormatFloat(v, 'f', min(decimals, 3), 64)
}

// ratio says how the subject's median stands against another's.
func (u Unit) ratio(subject, other Samples) string {
	mine, theirs := subject.Median(), other.Median()
	if mine <= 0 || theirs <= 0 {
		return ""
	}
	better, worse := "faster", "slower"
	if u == Bytes {
		better, worse = "less", "more"
	}
	if theirs >= mine {
		return digits(theirs/mine) + "x " + better
	}
	return digits(mine/theirs) + "x " + worse
}
