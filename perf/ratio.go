package perf

import (
	"math/rand/v2"
	"slices"
)

// resamples are enough for a 95 % interval's bounds to repeat to two digits.
const resamples = 2000

// Ratio is a quotient of medians with its 95 % interval: what the quotient might as
// well have been, had the run met other moments.
type Ratio struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// RatioOf divides the subject's median by another's. The interval is the percentile
// bootstrap's: medians of samples drawn with replacement from either side. The draws
// are the same in every call, so that one report says one thing. ok is false where a
// side has no samples or a median that is not above 0. Source: Efron and Tibshirani,
// An Introduction to the Bootstrap, chapter 13.
func RatioOf(subject, other Samples) (_ Ratio, ok bool) {
	mine, theirs := subject.Median(), other.Median()
	if mine <= 0 || theirs <= 0 {
		return Ratio{}, false
	}
	random := rand.New(rand.NewPCG(1, 2))
	quotients := make(Samples, 0, resamples)
	for range resamples {
		if of := other.drawn(random).Median(); of > 0 {
			quotients = append(quotients, subject.drawn(random).Median()/of)
		}
	}
	slices.Sort(quotients)
	return Ratio{mine / theirs, quotients.Quantile(0.025), quotients.Quantile(0.975)}, true
}

// Differs says whether the interval leaves 1 out: if not, the run shows no difference.
func (r Ratio) Differs() bool { return r.Low > 1 || r.High < 1 }

// inverse is the ratio the other way round.
func (r Ratio) inverse() Ratio { return Ratio{1 / r.Value, 1 / r.High, 1 / r.Low} }

// interval is the interval behind a value, or nothing where all samples say the same.
func (r Ratio) interval() string {
	if low, high := digits(r.Low), digits(r.High); low != high {
		return ", " + low + " to " + high
	}
	return ""
}

// drawn are as many samples as there are, each any of them.
func (s Samples) drawn(random *rand.Rand) Samples {
	drawn := make(Samples, len(s))
	for i := range drawn {
		drawn[i] = s[random.IntN(len(s))]
	}
	return drawn
}
