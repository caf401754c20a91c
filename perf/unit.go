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
	Times   Unit = "times" // as much as something
	// Rates, of which more is better.
	PerSecond      Unit = "per second"
	BytesPerSecond Unit = "bytes per second"
)

// MoreIsBetter is true of rates, and false of what something costs.
func (u Unit) MoreIsBetter() bool { return u == PerSecond || u == BytesPerSecond }

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
	if u.MoreIsBetter() {
		beside = []float64{s.Quantile(1)}
	}
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
	case u == Times:
		return digits, "x"
	case u == PerSecond:
		return digits, "/s"
	case u == BytesPerSecond:
		return bytesText, "/s"
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

// ratio says how the subject's median stands against another's, with the 95 %
// interval if it is wanted: then an interval that contains 1 is said to be no
// difference.
func (u Unit) ratio(subject, other Samples, interval bool) string {
	r, ok := RatioOf(subject, other)
	if !ok {
		return ""
	}
	if interval && !r.Differs() {
		return fmt.Sprintf("no difference (%s to %s)", digits(r.Low), digits(r.High))
	}
	word := u.word(r.Value <= 1)
	if r.Value <= 1 {
		r = r.inverse()
	}
	text := digits(r.Value) + "x " + word
	if interval {
		text += fmt.Sprintf(" (%s to %s)", digits(r.Low), digits(r.High))
	}
	return text
}

// word is what having less is, or having more.
func (u Unit) word(less bool) string {
	slower := less == u.MoreIsBetter()
	switch {
	case (u == Bytes || u == Count || u == Times) && less:
		return "less"
	case u == Bytes || u == Count || u == Times:
		return "more"
	case slower:
		return "slower"
	}
	return "faster"
}
