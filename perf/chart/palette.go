package chart

import (
	"image/color"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

func paper() color.Color  { return color.NRGBA{0xff, 0xff, 0xff, 0xff} }
func ink() color.Color    { return color.NRGBA{0x22, 0x22, 0x22, 0xff} }
func faint() color.Color  { return color.NRGBA{0xdd, 0xdd, 0xdd, 0xff} }
func quiet() color.Color  { return color.NRGBA{0x77, 0x77, 0x77, 0xff} }
func ours() color.Color   { return color.NRGBA{0x00, 0x72, 0xb2, 0xff} }
func theirs() color.Color { return color.NRGBA{0xb4, 0xb4, 0xb4, 0xff} }

// palette are the colours of lines, which people tell apart whatever colours they
// see: those of Okabe and Ito without the yellow, too pale on white, and the first,
// which is ours.
func palette() []color.Color {
	return []color.Color{
		color.NRGBA{0xd5, 0x5e, 0x00, 0xff}, // vermilion
		color.NRGBA{0x00, 0x9e, 0x73, 0xff}, // bluish green
		color.NRGBA{0xcc, 0x79, 0xa7, 0xff}, // reddish purple
		color.NRGBA{0xe6, 0x9f, 0x00, 0xff}, // orange
		color.NRGBA{0x56, 0xb4, 0xe9, 0xff}, // sky blue
		color.NRGBA{0x55, 0x55, 0x55, 0xff}, // grey
	}
}

func markers() []draw.GlyphDrawer {
	return []draw.GlyphDrawer{
		draw.SquareGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.CrossGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{}, draw.PlusGlyph{},
	}
}

// look is how a line is drawn. The n-th of the others differs from the one before it
// in colour and marker, and from the one a palette earlier in its dashes too.
type look struct {
	line   draw.LineStyle
	marker draw.GlyphStyle
}

func lookOf(own bool, n int) look {
	if own {
		return look{
			draw.LineStyle{Color: ours(), Width: vg.Points(2.2), Dashes: dashes(n)},
			draw.GlyphStyle{Color: ours(), Radius: vg.Points(3.6), Shape: draw.CircleGlyph{}},
		}
	}
	colors, shapes := palette(), markers()
	c := colors[n%len(colors)]
	return look{
		draw.LineStyle{Color: c, Width: vg.Points(1.3), Dashes: dashes(n / len(colors))},
		draw.GlyphStyle{Color: c, Radius: vg.Points(3.2), Shape: shapes[n%len(shapes)]},
	}
}

func dashes(n int) []vg.Length {
	return [][]vg.Length{nil, {vg.Points(5), vg.Points(2)}, {vg.Points(1.5), vg.Points(1.5)}}[n%3]
}
