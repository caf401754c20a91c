package chart

import (
	"cmp"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"blockstore.dev/blockstore/perf"
)

// Lines shows what a measure costs at several scales: a line for each column.
type Lines struct {
	Title string
	Unit  perf.Unit
	// Scale is what the x axis counts, with its unit: "layers", "MiB".
	Scale string
	Lines []Line
}

// Line is a column's. One without points is left out.
type Line struct {
	Name   string
	Points []Point
	Ours   bool
}

// Point is what was measured at one scale.
type Point struct {
	Scale   float64
	Samples perf.Samples
}

const (
	linesWidth  = 17 * vg.Centimeter
	linesHeight = 9 * vg.Centimeter
)

// Draw lays the chart out.
func (l Lines) Draw() Drawing {
	p := newPlot(l.Title)
	scales, all := l.values()
	p.X.Min, p.X.Max, p.X.Tick.Marker = scales[0], scales[len(scales)-1], l.scaleTicks(scales)
	p.X.Label.Text = l.Scale
	if wide(scales, 10) {
		p.X.Scale = plot.LogScale{}
		p.X.Label.Text += " (logarithmic)"
	}
	logarithmic := all.Min() > 0
	if logarithmic {
		p.Y.Min, p.Y.Max = all.Min()/1.4, all.Quantile(1)*1.4
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, logTicks(l.Unit)
	} else {
		p.Y.Min, p.Y.Max, p.Y.Tick.Marker = min(0, all.Min()), max(all.Quantile(1), 1e-9), linearTicks(l.Unit)
	}
	p.Title.Padding = vg.Points(24)
	p.Add(linePlotter{l, axisLabel(l.Unit, logarithmic)})
	return Drawing{plot: p, width: linesWidth, height: linesHeight, right: l.legendWidth(), legend: l.legend}
}

// values are the scales, each once and in order, and all that is drawn.
func (l Lines) values() (scales, all perf.Samples) {
	for _, line := range l.Lines {
		for _, point := range line.Points {
			scales, all = append(scales, point.Scale), append(all, point.Samples.Quantile(0.25), point.Samples.Quantile(0.75))
		}
	}
	slices.Sort(scales)
	if len(scales) == 0 {
		return perf.Samples{0, 1}, nil
	}
	return slices.Compact(scales), all
}

// scaleTicks are at what was measured.
func (l Lines) scaleTicks(scales perf.Samples) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, s := range scales {
		ticks = append(ticks, plot.Tick{Value: s, Label: tickText(perf.Count, s)})
	}
	return ticks
}

// looks are the lines' by their place among those that are drawn: ours alike in colour,
// the others each their own.
func (l Lines) looks() []look {
	looks, own, other := make([]look, len(l.Lines)), 0, 0
	for i, line := range l.Lines {
		switch {
		case len(line.Points) == 0:
		case line.Ours:
			looks[i] = lookOf(true, own)
			own++
		default:
			looks[i] = lookOf(false, other)
			other++
		}
	}
	return looks
}

// linePlotter draws the lines, each point with its quartiles, and says above them
// what the y axis is: the plot's own label stands upside and asks for room at a
// logarithmic axis's end.
type linePlotter struct {
	Lines
	label string
}

func (l linePlotter) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for _, tick := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
		if !tick.IsMinor() {
			c.StrokeLine2(draw.LineStyle{Color: faint(), Width: vg.Points(0.5)}, c.Min.X, y(tick.Value), c.Max.X, y(tick.Value))
		}
	}
	c.FillText(beside(quiet()), vg.Point{X: c.Min.X - vg.Points(30), Y: c.Max.Y + vg.Points(14)}, l.label)
	looks := l.looks()
	for i, line := range l.Lines.Lines {
		points := slices.SortedFunc(slices.Values(line.Points), func(a, b Point) int { return cmp.Compare(a.Scale, b.Scale) })
		var at []vg.Point
		for _, point := range points {
			here := vg.Point{X: x(point.Scale), Y: y(point.Samples.Median())}
			at = append(at, here)
			spread := draw.LineStyle{Color: looks[i].line.Color, Width: vg.Points(0.8)}
			c.StrokeLine2(spread, here.X, y(point.Samples.Quantile(0.25)), here.X, y(point.Samples.Quantile(0.75)))
		}
		c.StrokeLines(looks[i].line, at)
		for _, here := range at {
			c.DrawGlyph(looks[i].marker, here)
		}
	}
}

// Where things are in the legend, from its left.
const (
	legendLine = 8  // its line's begin
	legendMark = 17 // its marker
	legendEnd  = 26 // its line's end
	legendName = 31
)

// legendWidth is what the longest name takes.
func (l Lines) legendWidth() vg.Length {
	var widest vg.Length
	for _, line := range l.Lines {
		if len(line.Points) > 0 {
			widest = max(widest, legendStyle().Width(clip(line.Name, 26)))
		}
	}
	return vg.Points(legendName+8) + widest
}

func legendStyle() text.Style {
	return text.Style{Color: ink(), Font: face(9), YAlign: draw.YCenter, Handler: plot.DefaultTextHandler}
}

// legend names the lines in the order in which they end, from above, with what the
// last point is.
func (l Lines) legend(c draw.Canvas) {
	order := make([]int, 0, len(l.Lines))
	for i, line := range l.Lines {
		if len(line.Points) > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(l.last(j), l.last(i)) })
	looks := l.looks()
	x := func(points float64) vg.Length { return c.Min.X + vg.Points(points) }
	y := c.Max.Y - vg.Points(30)
	for _, i := range order {
		c.StrokeLine2(looks[i].line, x(legendLine), y, x(legendEnd), y)
		c.DrawGlyphNoClip(looks[i].marker, vg.Point{X: x(legendMark), Y: y})
		c.FillText(legendStyle(), vg.Point{X: x(legendName), Y: y + vg.Points(1)}, clip(l.Lines[i].Name, 26))
		y -= vg.Points(13)
	}
}

// last is the median at the greatest scale.
func (l Lines) last(i int) float64 {
	return slices.MaxFunc(l.Lines[i].Points, func(a, b Point) int { return cmp.Compare(a.Scale, b.Scale) }).Samples.Median()
}
