package chart

import (
	"cmp"
	"image"
	"image/color"
	stdraw "image/draw"
	"image/png"
	"io"
	"maps"
	"slices"

	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// pngDPI gives lines that are sharp on dense screens too.
const pngDPI = 192

// PNG writes the drawing as an image of few colours: a third of what it would take with
// all of them, and hardly to be seen.
func (d Drawing) PNG(w io.Writer) error {
	e := png.Encoder{CompressionLevel: png.BestCompression}
	return e.Encode(w, d.Image())
}

// Image is what PNG writes.
func (d Drawing) Image() *image.Paletted {
	c := vgimg.NewWith(vgimg.UseWH(d.width, d.height), vgimg.UseDPI(pngDPI))
	d.draw(draw.New(c))
	return paletted(c.Image())
}

// maxColors is what a byte can tell apart.
const maxColors = 256

// paletted keeps the colours that are used most; each other, of some pixels at edges,
// becomes the nearest of them.
func paletted(from image.Image) *image.Paletted {
	pixels := stepped(from)
	used := map[color.RGBA]int{}
	for _, c := range pixels {
		used[c]++
	}
	colors := slices.SortedFunc(maps.Keys(used), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(used[b], used[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	var palette color.Palette
	for _, c := range colors[:min(len(colors), maxColors)] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	for _, c := range colors {
		index[c] = uint8(palette.Index(c))
	}
	to := image.NewPaletted(from.Bounds(), palette)
	for i, c := range pixels {
		to.Pix[i] = index[c]
	}
	return to
}

// stepped are the pixels, line by line, their colours in steps that are small enough for
// soft edges. All are opaque: a chart stands on dark pages too.
func stepped(from image.Image) []color.RGBA {
	const step = 15 // 0 and 255 are steps
	part := func(v uint8) uint8 { return uint8((int(v) + step/2) / step * step) }
	flat := image.NewRGBA(from.Bounds())
	stdraw.Draw(flat, flat.Bounds(), from, from.Bounds().Min, stdraw.Src)
	pixels := make([]color.RGBA, len(flat.Pix)/4)
	for i := range pixels {
		p := flat.Pix[4*i:]
		pixels[i] = color.RGBA{part(p[0]), part(p[1]), part(p[2]), 0xff}
	}
	return pixels
}
