package chart

import (
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"blockstore.dev/blockstore/perf"
)

// farApart is from which quotient of medians on bars stand on a logarithmic axis: on
// a linear one the least would be a hair.
const farApart = 20

// Bars compares one measure: a bar for each column, from above in their order.
type Bars struct {
	Title string
	Unit  perf.Unit
	Bars  []Bar
}

// Bar is a column's. One without samples is named as not run.
type Bar struct {
	Name    string
	Samples perf.Samples
	Ours    bool
}

const (
	barsWidth  = 15 * vg.Centimeter
	barHeight  = 0.62 * vg.Centimeter
	barsAround = 2.3 * vg.Centimeter // title, axis and its label
)

// Draw lays the chart out.
func (b Bars) Draw() Drawing {
	p := newPlot(b.Title)
	if len(b.Bars) == 0 { // an axis wants something to name
		b.Bars = []Bar{{}}
	}
	names := make([]string, len(b.Bars))
	for i, bar := range b.Bars {
		names[len(names)-1-i] = clip(bar.Name, 36)
	}
	p.NominalY(names...)
	p.Y.Min, p.Y.Max = -0.5, float64(len(names))-0.5
	p.Y.Padding = 0
	low, high, logarithmic := b.extent()
	p.X.Min, p.X.Max = low, high
	p.X.Tick.Marker = linearTicks(b.Unit)
	if logarithmic {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, logTicks(b.Unit)
	}
	p.X.Label.Text = axisLabel(b.Unit, logarithmic)
	p.Add(barPlotter{b})
	return Drawing{plot: p, width: barsWidth, height: barsAround + vg.Length(len(names))*barHeight}
}

// extent is what the axis covers: from 0, or on a logarithmic one from less than
// the least sample.
func (b Bars) extent() (low, high float64, logarithmic bool) {
	var all, medians perf.Samples
	for _, bar := range b.Bars {
		if len(bar.Samples) > 0 {
			all, medians = append(all, bar.Samples...), append(medians, bar.Samples.Median())
		}
	}
	if wide(medians, farApart) && all.Min() > 0 {
		return all.Min() / 2, all.Quantile(1), true
	}
	low, high = math.Min(0, all.Min()), math.Max(0, all.Quantile(1))
	if low == high {
		high = 1
	}
	return low, high, false
}

// barPlotter draws the bars into a plot whose y axis counts them from below.
type barPlotter struct{ Bars }

func (b barPlotter) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	verticals(c, p, x)
	for i, bar := range b.Bars.Bars {
		at := y(float64(len(b.Bars.Bars) - 1 - i))
		if len(bar.Samples) == 0 {
			b.text(c, beside(quiet()), vg.Point{X: c.Min.X + vg.Points(4), Y: at + vg.Points(1)}, "not run")
			continue
		}
		b.bar(c, bar, x, at)
	}
}

func (b barPlotter) bar(c draw.Canvas, bar Bar, x func(float64) vg.Length, at vg.Length) {
	fill := theirs()
	if bar.Ours {
		fill = ours()
	}
	const half = barHeight * 0.32
	from := c.Min.X
	if low, _, logarithmic := b.extent(); !logarithmic && low < 0 {
		from = x(0)
	}
	to := x(bar.Samples.Median())
	c.FillPolygon(fill, []vg.Point{{X: from, Y: at - half}, {X: to, Y: at - half}, {X: to, Y: at + half}, {X: from, Y: at + half}})
	low, high := x(bar.Samples.Min()), x(bar.Samples.Quantile(1))
	if high > low {
		spread := draw.LineStyle{Color: ink(), Width: vg.Points(0.6)}
		c.StrokeLine2(spread, low, at, high, at)
		spread.Width = vg.Points(2.4)
		c.StrokeLine2(spread, x(bar.Samples.Quantile(0.25)), at, x(bar.Samples.Quantile(0.75)), at)
	}
	b.text(c, beside(ink()), vg.Point{X: max(high, to) + vg.Points(5), Y: at + vg.Points(1)}, b.Unit.Text(bar.Samples.Median()))
}

// text stands on the background, not on the lines behind everything.
func (b barPlotter) text(c draw.Canvas, style text.Style, at vg.Point, s string) {
	from, to := vg.Point{X: at.X - vg.Points(1), Y: at.Y - vg.Points(5)}, vg.Point{X: at.X + style.Width(s) + vg.Points(1), Y: at.Y + vg.Points(4)}
	c.FillPolygon(paper(), []vg.Point{from, {X: to.X, Y: from.Y}, to, {X: from.X, Y: to.Y}})
	c.FillText(style, at, s)
}

// GlyphBoxes keep room for the medians' text to the right of the bars.
func (b barPlotter) GlyphBoxes(p *plot.Plot) []plot.GlyphBox {
	var boxes []plot.GlyphBox
	for i, bar := range b.Bars.Bars {
		if len(bar.Samples) == 0 {
			continue
		}
		width := beside(ink()).Width(b.Unit.Text(bar.Samples.Median())) + vg.Points(8)
		boxes = append(boxes, plot.GlyphBox{
			X: p.X.Norm(max(bar.Samples.Quantile(1), p.X.Min)), Y: p.Y.Norm(float64(len(b.Bars.Bars) - 1 - i)),
			Rectangle: vg.Rectangle{Max: vg.Point{X: width}},
		})
	}
	return boxes
}

// verticals are the lines behind everything at the axis's marks with text.
func verticals(c draw.Canvas, p *plot.Plot, x func(float64) vg.Length) {
	for _, tick := range p.X.Tick.Marker.Ticks(p.X.Min, p.X.Max) {
		if !tick.IsMinor() {
			c.StrokeLine2(draw.LineStyle{Color: faint(), Width: vg.Points(0.5)}, x(tick.Value), c.Min.Y, x(tick.Value), c.Max.Y)
		}
	}
}

// beside is the text that stands to the right of a point.
func beside(c color.Color) text.Style {
	return text.Style{Color: c, Font: face(9), XAlign: draw.XLeft, YAlign: draw.YCenter, Handler: plot.DefaultTextHandler}
}
