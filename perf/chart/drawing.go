package chart

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Drawing is a chart that is laid out.
type Drawing struct {
	plot          *plot.Plot
	width, height vg.Length
	// right is kept free for legend, which draws there.
	right  vg.Length
	legend func(draw.Canvas)
	// caption are lines below it.
	caption []string
}

// families stand in for the font that charts are measured with: of the same widths.
const families = "font-family:'Liberation Sans',Arial,Helvetica,sans-serif;"

var (
	oneFamily = regexp.MustCompile(`font-family:[^;"]*;`)
	preamble  = regexp.MustCompile(`(?s)^.*?<svg`)
	unusedXML = regexp.MustCompile(`\s*xmlns:xlink="[^"]*"`)
	oneText   = regexp.MustCompile(`<text ([^>]*font-size:([0-9.]+)px[^>]*)>([^<]*)</text>`)
)

// SVG writes the drawing as an svg element, without the preamble of a document.
func (d Drawing) SVG(w io.Writer) error {
	c := vgsvg.NewWith(vgsvg.UseWH(d.width, d.height))
	d.draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return fmt.Errorf("writing a chart: %w", err)
	}
	out := preamble.ReplaceAll(b.Bytes(), []byte("<svg"))
	out = unusedXML.ReplaceAll(out, nil)
	out = oneText.ReplaceAllFunc(oneFamily.ReplaceAll(out, []byte(families)), fixWidth)
	_, err := w.Write(out)
	return err
}

// fixWidth has a text take the width that it was laid out with, whatever font a
// browser finds.
func fixWidth(element []byte) []byte {
	found := oneText.FindSubmatch(element)
	size, err := strconv.ParseFloat(string(found[2]), 64)
	if err != nil {
		return element
	}
	laidOut := plot.DefaultTextHandler.Cache().Lookup(face(size), vg.Points(size))
	width := laidOut.Width(html.UnescapeString(string(found[3])))
	return fmt.Appendf(nil, `<text textLength="%.2f" lengthAdjust="spacingAndGlyphs" %s>%s</text>`, width.Points(), found[1], found[3])
}

// captionLine is the height of one.
const captionLine = 12

// Captioned is the drawing with lines below it, which say where its figures are from.
func (d Drawing) Captioned(lines ...string) Drawing {
	d.height += vg.Points(captionLine) * vg.Length(len(lines))
	d.caption = append(slices.Clone(d.caption), lines...)
	return d
}

func (d Drawing) draw(c draw.Canvas) {
	c.SetColor(d.plot.BackgroundColor)
	c.Fill(c.Rectangle.Path())
	c = draw.Crop(c, vg.Points(4), -vg.Points(4), vg.Points(4), -vg.Points(4))
	for i, line := range d.caption {
		style := beside(quiet())
		style.Font, style.YAlign = face(8), draw.YBottom
		c.FillText(style, vg.Point{X: c.Min.X, Y: c.Min.Y + vg.Points(captionLine)*vg.Length(len(d.caption)-1-i)}, clip(line, 120))
	}
	c = draw.Crop(c, 0, 0, vg.Points(captionLine)*vg.Length(len(d.caption)), 0)
	d.plot.Draw(draw.Crop(c, 0, -d.right, 0, 0))
	if d.legend != nil {
		d.legend(draw.Crop(c, c.Size().X-d.right, 0, 0, 0))
	}
}

// face is the charts' font in a size of points.
func face(size float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(size)}
}

// newPlot is an empty one in the charts' style.
func newPlot(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = clip(title, 80)
	p.Title.TextStyle.Font, p.Title.TextStyle.Color, p.Title.Padding = face(11), ink(), vg.Points(6)
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font, a.Label.TextStyle.Color = face(9), quiet()
		a.Tick.Label.Font, a.Tick.Label.Color = face(9), ink()
		a.LineStyle.Color, a.Tick.LineStyle.Color = quiet(), quiet()
	}
	return p
}

// clip shortens a name to n characters, on one line: names come from files.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
