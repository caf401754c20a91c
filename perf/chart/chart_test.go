package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot/vg"

	"blockstore.dev/blockstore/perf"
)

var update = flag.Bool("update", false, "write the golden files anew")

func exampleBars() Bars {
	return Bars{Title: "first write into 64 MiB", Unit: perf.Seconds, Bars: []Bar{
		{Name: "overlayfs", Samples: perf.Samples{0.11, 0.1, 0.13, 0.2}},
		{Name: "native"},
		{Name: "blockstore/btrfs", Samples: perf.Samples{0.002, 0.0013, 0.0014}, Ours: true},
	}}
}

func exampleLines() Lines {
	return Lines{Title: "first write", Unit: perf.Seconds, Scale: "MiB", Lines: []Line{
		{Name: "overlayfs", Points: []Point{{1, perf.Samples{0.004}}, {64, perf.Samples{0.1, 0.12}}, {1024, perf.Samples{2.6}}}},
		{Name: "blockstore/btrfs", Ours: true, Points: []Point{{1024, perf.Samples{0.0021}}, {1, perf.Samples{0.002, 0.0022}}, {64, perf.Samples{0.002}}}},
		{Name: "native"},
	}}
}

// TestGolden: the drawings are as they were when somebody looked at them.
func TestGolden(t *testing.T) {
	for name, drawing := range map[string]Drawing{"bars": exampleBars().Draw(), "lines": exampleLines().Draw()} {
		t.Run(name, func(t *testing.T) {
			got := svg(t, drawing)
			file := filepath.Join("testdata", name+".svg")
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, string(want), got, "look at it, and then: go test ./perf/chart -update")
		})
	}
}

func svg(t *testing.T, d Drawing) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, d.SVG(&b))
	return b.String()
}

// TestPNG: an image of the drawing's size.
func TestPNG(t *testing.T) {
	var b bytes.Buffer
	d := exampleBars().Draw()
	require.NoError(t, d.PNG(&b))
	img, err := png.Decode(&b)
	require.NoError(t, err)
	assert.InDelta(t, float64(d.width.Dots(pngDPI)), float64(img.Bounds().Dx()), 1)
	assert.InDelta(t, float64(d.height.Dots(pngDPI)), float64(img.Bounds().Dy()), 1)
	higher := d.Captioned("from a run", "of yesterday").Image().Bounds()
	assert.Equal(t, img.Bounds().Dx(), higher.Dx())
	assert.InDelta(t, 2*float64(vg.Points(captionLine).Dots(pngDPI)), float64(higher.Dy()-img.Bounds().Dy()), 1)
}

// TestColors: however many there are, those that are used most remain, in steps, and
// nothing shines through.
func TestColors(t *testing.T) {
	many := image.NewNRGBA(image.Rect(0, 0, 200, 100))
	for x := range 200 {
		for y := range 100 {
			many.Set(x, y, color.NRGBA{uint8(x), uint8(2 * y), uint8(x + y), 0xff})
			if x < 20 {
				many.Set(x, y, paper())
			}
		}
	}
	few := paletted(many)
	assert.Len(t, few.Palette, maxColors)
	assert.Equal(t, color.RGBA{0xff, 0xff, 0xff, 0xff}, few.At(0, 0))
	assert.True(t, few.Opaque())
	assert.Equal(t, few, paletted(many))
	for _, c := range []color.Color{paper(), ink(), ours(), theirs()} {
		one := image.NewNRGBA(image.Rect(0, 0, 1, 1))
		one.Set(0, 0, c)
		is := stepped(one)[0]
		for i, part := range []uint8{is.R, is.G, is.B} {
			assert.InDelta(t, one.Pix[i], part, 7)
		}
	}
}

// TestAnything: whatever stands in a file is drawn as well-formed XML that refers to
// nothing, or as little as there is.
func TestAnything(t *testing.T) {
	one := func(unit perf.Unit, samples ...float64) Bars {
		return Bars{Title: "x", Unit: unit, Bars: []Bar{{Name: "a", Samples: samples}, {Name: "b", Samples: perf.Samples{1}}}}
	}
	tests := map[string]Drawing{
		"nothing":             Bars{}.Draw(),
		"nobody ran":          Bars{Bars: []Bar{{Name: "a"}}}.Draw(),
		"zeros":               one(perf.Count, 0, 0).Draw(),
		"below zero":          one(perf.Bytes, -4096, -1<<40).Draw(),
		"far apart":           one(perf.Seconds, 1e-9, 1e18).Draw(),
		"rates":               one(perf.BytesPerSecond, 1<<30).Draw(),
		"an unknown unit":     one(perf.Unit("furlongs"), 3).Draw(),
		"markup in names":     Bars{Title: "<script>alert(1)</script>", Bars: []Bar{{Name: "\x00\"><img src=//x>", Samples: perf.Samples{1}}}}.Draw(),
		"no lines":            Lines{}.Draw(),
		"one point":           Lines{Unit: perf.Seconds, Lines: []Line{{Name: "a", Points: []Point{{1, perf.Samples{1}}}}}}.Draw(),
		"zero at scale zero":  Lines{Unit: perf.Count, Lines: []Line{{Name: "a", Points: []Point{{0, perf.Samples{0}}, {10, perf.Samples{5}}}}}}.Draw(),
		"negative at a scale": Lines{Unit: perf.Bytes, Lines: []Line{{Name: "a", Points: []Point{{-5, perf.Samples{-1 << 20}}, {10, perf.Samples{5}}}}}}.Draw(),
	}
	for name, drawing := range tests {
		t.Run(name, func(t *testing.T) {
			got := svg(t, drawing)
			wellFormed(t, got)
			assert.NotContains(t, got, "NaN")
			assert.NotContains(t, got, "href")
			assert.NotContains(t, got, "<script")
			assert.NotContains(t, got, "<img")
		})
	}
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err, text)
	}
}

// TestTicks: marks lie in the range, are few, and carry their unit.
func TestTicks(t *testing.T) {
	tests := map[string]struct {
		ticks     func(low, high float64) []string
		low, high float64
		want      []string
	}{
		"decades":          {labels(perf.Seconds, true), 0.0005, 3, []string{"1 ms", "10 ms", "100 ms", "1 s"}},
		"within a decade":  {labels(perf.Seconds, true), 0.0009, 0.006, []string{"1 ms", "2 ms", "5 ms"}},
		"powers of two":    {labels(perf.Bytes, true), 4096, 1 << 16, []string{"4 KiB", "8 KiB", "16 KiB", "32 KiB", "64 KiB"}},
		"linear":           {labels(perf.Seconds, false), 0, 0.05, []string{"0", "10 ms", "20 ms", "30 ms", "40 ms", "50 ms"}},
		"linear bytes":     {labels(perf.Bytes, false), 0, 1000, []string{"0", "256 B", "512 B", "768 B"}},
		"counts":           {labels(perf.Count, false), 0, 12, []string{"0", "5", "10"}},
		"few per second":   {labels(perf.PerSecond, false), 0, 40, []string{"0", "10/s", "20/s", "30/s", "40/s"}},
		"operations a sec": {labels(perf.PerSecond, false), 0, 900, []string{"0", "200/s", "400/s", "600/s", "800/s"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, test.ticks(test.low, test.high)) })
	}
}

func labels(unit perf.Unit, logarithmic bool) func(low, high float64) []string {
	return func(low, high float64) []string {
		ticks := linearTicks(unit)(low, high)
		if logarithmic {
			ticks = logTicks(unit)(low, high)
		}
		var texts []string
		for _, tick := range ticks {
			if !tick.IsMinor() {
				texts = append(texts, tick.Label)
			}
		}
		return texts
	}
}

// TestManyTicks: however far the ends are apart.
func TestManyTicks(t *testing.T) {
	for _, unit := range []perf.Unit{perf.Seconds, perf.Bytes} {
		for _, high := range []float64{2, 1e3, 1e6, 1e18} {
			assert.LessOrEqual(t, len(labels(unit, true)(1e-6, high)), 2*manyTicks, "%s up to %g", unit, high)
			assert.LessOrEqual(t, len(labels(unit, false)(-high, high)), 2*manyTicks, "%s up to %g", unit, high)
			for _, tick := range logTicks(unit)(1e-6, high) {
				assert.False(t, math.IsInf(tick.Value, 0))
			}
		}
	}
}

// TestLooks: no two lines of twenty look the same.
func TestLooks(t *testing.T) {
	seen := map[any]bool{}
	for n := range 20 {
		l := lookOf(false, n)
		key := [3]any{l.line.Color, len(l.line.Dashes), l.marker.Shape}
		assert.False(t, seen[key], "line %d", n)
		seen[key] = true
	}
	looks := Lines{Lines: []Line{{Name: "not drawn"}, {Name: "drawn", Points: []Point{{1, perf.Samples{1}}}}}}.looks()
	assert.Equal(t, lookOf(false, 0), looks[1], "who is not drawn takes no look")
}
