package perf

import "strings"

// Target is what the subject has to reach: the median of one cell divided by that
// of another, both of this run, is AtMost at most. Without another the median itself is.
type Target struct {
	Text   string  `json:"text"` // for people
	Cell   Cell    `json:"cell"`
	Of     Cell    `json:"of,omitzero"`
	AtMost float64 `json:"at_most"`
}

// Cell names a row's samples in a column.
type Cell struct {
	Row    string `json:"row"`
	Column string `json:"column"`
}

// reached says what the quotient is with its interval, or the median, and whether there is one.
func (t Target) reached(r *Report) (Ratio, bool) {
	mine, theirs := r.samples(t.Cell.Row, t.Cell.Column), Samples{1}
	if t.Of != (Cell{}) {
		theirs = r.samples(t.Of.Row, t.Of.Column)
	}
	if len(mine) == 0 || len(theirs) == 0 || theirs.Median() <= 0 {
		return Ratio{}, false
	}
	if is, ok := RatioOf(mine, theirs); ok {
		return is, true
	}
	is := mine.Median() / theirs.Median()
	return Ratio{is, is, is}, true
}

// said is a target with what came of it, and where it was missed, why. A wish to be several times faster, or to take
// several times less, is shown as such, not as a small part. What the interval holds the aim of is within noise.
func (t Target) said(r *Report) string {
	is, known := t.reached(r)
	if !known {
		return "target: " + t.Text + ": not measured"
	}
	verdict := "missed"
	if is.Value <= t.AtMost {
		verdict = "met"
	}
	if (is.Low <= t.AtMost) != (is.High <= t.AtMost) {
		verdict += " within noise"
	}
	unit := r.unit(t.Cell.Row)
	how := digits(is.Value) + "x" + is.interval()
	switch {
	case t.Of == (Cell{}):
		how = unit.Text(is.Value)
	case t.AtMost < 1 && is.Value > 0:
		how = digits(1/is.Value) + "x " + unit.word(!unit.MoreIsBetter()) + is.inverse().interval()
	}
	said := "target: " + t.Text + ": " + verdict + " (" + how + ")"
	if why := t.why(); is.Value > t.AtMost && why != "" {
		said += ". " + strings.ToUpper(why[:1]) + why[1:]
	}
	return said
}
