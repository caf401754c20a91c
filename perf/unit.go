package perf

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// Unit is what a row's samples are counted in.
type Unit string

// The units.
const (
	Seconds Unit = "seconds"
	Bytes   Unit = "bytes"
	Count   Unit = "count" // of calls, the same in every run
)

// cell writes a median with the minimum in brackets, or with the quartiles if the
// reader is to see how far samples lie apart. All are in the median's unit, so that
// they can be compared at a glance. A count stands alone if all samples are equal.
func (u Unit) cell(s Samples, quartiles bool) string {
	if len(s) == 0 {
		return ""
	}
	if u == Count && s.Min() == s.Quantile(1) {
		return countText(s.Median())
	}
	beside := []float64{s.Min()}
	if quartiles {
		beside = []float64{s.Quantile(0.25), s.Quantile(0.75)}
	}
	text, name := u.scaled(s.Median())
	var texts []string
	for _, v := range beside {
		texts = append(texts, text(v))
	}
	return fmt.Sprintf("%s%s (%s)", text(s.Median()), name, strings.Join(texts, " to "))
}

// scaled is how values are written beside a median, and the name behind it.
func (u Unit) scaled(median float64) (text func(float64) string, name string) {
	switch {
	case u == Bytes:
		return bytesText, ""
	case u == Count:
		return countText, ""
	case median < 1e-3:
		return func(v float64) string { return digits(v * 1e6) }, " µs"
	case median < 1:
		return func(v float64) string { return digits(v * 1e3) }, " ms"
	}
	return digits, " s"
}

func countText(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

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
	if u == Bytes || u == Count {
		better, worse = "less", "more"
	}
	if theirs >= mine {
		return digits(theirs/mine) + "x " + better
	}
	return digits(mine/theirs) + "x " + worse
}
