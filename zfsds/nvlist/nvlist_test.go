package nvlist

import (
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// vector reads testdata/name: hexadecimal text, and comments that say where it is from.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	if hostEndian() != littleEndian {
		t.Skip("the vectors are of little-endian machines, and the native encoding is each machine's own")
	}
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	text = regexp.MustCompile(`(?m)^#.*$|\s`).ReplaceAll(text, nil)
	raw, err := hex.DecodeString(string(text))
	require.NoError(t, err)
	return raw
}

func example() *List {
	props := new(List).Set("quota", uint64(1<<30)).Set("blockstore:id", "sha256:abc")
	return new(List).Set("type", int32(2)).Set("props", props).Set("defer", Flag{})
}

func everything() *List {
	return new(List).
		Set("flag", Flag{}).Set("byte", Byte(7)).Set("true", true).Set("false", false).
		Set("int8", int8(-8)).Set("uint8", uint8(200)).Set("int16", int16(-16)).Set("uint16", uint16(math.MaxUint16)).
		Set("int32", int32(-32)).Set("uint32", uint32(math.MaxUint32)).Set("int64", int64(math.MinInt64)).
		Set("uint64", uint64(math.MaxUint64)).Set("time", Time(12)).Set("string", "é").Set("empty", "").
		Set("bytes", []byte{1, 2, 3}).Set("uint8s", Uint8s{4, 5}).Set("int8s", []int8{-1}).Set("bools", []bool{true, false, true}).
		Set("int16s", []int16{-1, 2, 3}).Set("uint16s", []uint16{1}).Set("int32s", []int32{-5}).Set("uint32s", []uint32{5, 6, 7}).
		Set("int64s", []int64{-5}).Set("uint64s", []uint64{5, 6}).Set("strings", []string{"a", "", "ccc"}).Set("none", []uint64{}).
		Set("list", new(List)).Set("lists", []*List{example(), {}, example()}).Set("after", example())
}

func TestMarshalIsTheLibrarys(t *testing.T) {
	want := vector(t, "libnvpair.hex")
	got, err := Marshal(example())
	require.NoError(t, err)
	require.Equal(t, want, got)
	back, err := Unmarshal(want)
	require.NoError(t, err)
	require.Equal(t, example(), back)
}

// TestMarshalIsTheKernels writes what /dev/zfs answered again, byte for byte.
func TestMarshalIsTheKernels(t *testing.T) {
	for _, name := range []string{"holds.hex", "busy.hex", "stats.hex", "configs.hex", "pool.hex"} {
		want := vector(t, name)
		l, err := Unmarshal(want)
		require.NoError(t, err, name)
		got, err := Marshal(l)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
	held, err := Unmarshal(vector(t, "holds.hex"))
	require.NoError(t, err)
	since, err := Get[uint64](held, "tag")
	require.NoError(t, err)
	require.NotZero(t, since)
	stats, err := Unmarshal(vector(t, "stats.hex"))
	require.NoError(t, err)
	inner, err := Get[*List](stats, "com.sun:auto-snapshot")
	require.NoError(t, err)
	value, err := Get[string](inner, "value")
	require.NoError(t, err)
	require.Equal(t, "false", value)
}

func TestRoundTrip(t *testing.T) {
	raw, err := Marshal(everything())
	require.NoError(t, err)
	back, err := Unmarshal(append(raw, "what the buffer held before"...))
	require.NoError(t, err)
	require.Equal(t, everything(), back)
	raw, err = Marshal(nil)
	require.NoError(t, err)
	back, err = Unmarshal(raw)
	require.NoError(t, err)
	require.Zero(t, back.Len())
}

func TestUnmarshalCutAnywhere(t *testing.T) {
	raw, err := Marshal(everything())
	require.NoError(t, err)
	for n := range raw {
		_, err := Unmarshal(raw[:n])
		require.ErrorIs(t, err, ErrFormat, "the first %d bytes", n)
	}
}

func nested(depth int) *List {
	l := new(List)
	for range depth {
		l = new(List).Set("l", l)
	}
	return l
}

func TestDepth(t *testing.T) {
	raw, err := Marshal(nested(MaxDepth))
	require.NoError(t, err)
	_, err = Unmarshal(raw)
	require.NoError(t, err)
	_, err = Marshal(nested(MaxDepth + 1))
	require.ErrorIs(t, err, ErrFormat)
	// The same by hand: a pair that begins a list, again and again.
	one, err := Marshal(nested(1))
	require.NoError(t, err)
	head, pair := one[:streamHeader+listHeader], one[streamHeader+listHeader:len(one)-2*endMark]
	_, err = Unmarshal(append(head[:len(head):len(head)], strings.Repeat(string(pair), 1000)...))
	require.ErrorContains(t, err, "deep")
}

func TestMarshalRefuses(t *testing.T) {
	loop := new(List)
	loop.Set("loop", loop)
	for name, l := range map[string]*List{
		"no name":          new(List).Set("", Flag{}),
		"long name":        new(List).Set(strings.Repeat("x", math.MaxInt16), Flag{}),
		"NUL in a name":    new(List).Set("a\x00b", Flag{}),
		"NUL in text":      new(List).Set("a", "a\x00b"),
		"NUL in texts":     new(List).Set("a", []string{"a\x00b"}),
		"unknown type":     new(List).Set("a", 1),
		"nil":              new(List).Set("a", nil),
		"a list in itself": loop,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Marshal(l)
			require.ErrorIs(t, err, ErrFormat)
		})
	}
	_, err := Marshal(new(List).Set("a", make([]byte, MaxSize)))
	require.ErrorIs(t, err, ErrFormat)
}

// hostile changes one field of a pair {"a": uint64s}.
func hostile(t *testing.T, change func(pair []byte)) []byte {
	raw, err := Marshal(new(List).Set("a", []uint64{1, 2}))
	require.NoError(t, err)
	change(raw[streamHeader+listHeader:])
	return raw
}

func TestUnmarshalRefuses(t *testing.T) {
	for name, change := range map[string]func(pair []byte){
		"a pair beyond the end":       func(p []byte) { order.PutUint32(p, 1<<30) },
		"a pair of negative size":     func(p []byte) { order.PutUint32(p, 1<<31) },
		"a pair too small":            func(p []byte) { order.PutUint32(p, 8) },
		"a pair not padded":           func(p []byte) { order.PutUint32(p, 41) },
		"a name longer than its pair": func(p []byte) { order.PutUint16(p[4:], 200) },
		"a name of negative size":     func(p []byte) { order.PutUint16(p[4:], 1<<15) },
		"a name of no size":           func(p []byte) { order.PutUint16(p[4:], 0) },
		"a name without an end":       func(p []byte) { p[17] = 'b' },
		"an empty name":               func(p []byte) { p[16] = 0 },
		"more elements than bytes":    func(p []byte) { order.PutUint32(p[8:], 1<<30) },
		"a negative number of them":   func(p []byte) { order.PutUint32(p[8:], 1<<31) },
		"strings that are not there":  func(p []byte) { order.PutUint32(p[8:], 1<<27); p[12] = byte(typeStringArray) },
		"strings without an end":      func(p []byte) { order.PutUint32(p[8:], 1); p[12] = byte(typeStringArray); copy(p[32:], "xxxxxxxx") },
		"a string without an end":     func(p []byte) { p[12] = byte(typeString); copy(p[24:], "xxxxxxxxxxxxxxxx") },
		"lists that are not there":    func(p []byte) { order.PutUint32(p[8:], 1<<27); p[12] = byte(typeNvlistArray) },
		"a list that is not there":    func(p []byte) { p[12] = byte(typeNvlist) },
		"an unknown type":             func(p []byte) { p[12] = 27 },
		"type 0":                      func(p []byte) { p[12] = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Unmarshal(hostile(t, change))
			require.ErrorIs(t, err, ErrFormat)
		})
	}
	for name, raw := range map[string][]byte{
		"nothing":    {},
		"XDR":        {1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0},
		"byte order": {0, 1 - hostEndian(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0},
		"version":    {0, hostEndian(), 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Unmarshal(raw)
			require.ErrorIs(t, err, ErrFormat)
		})
	}
}

func TestNamesAreUnique(t *testing.T) {
	l := new(List).Set("a", uint64(1)).Set("b", Flag{}).Set("a", "new")
	require.Equal(t, 2, l.Len())
	value, err := Get[string](l, "a")
	require.NoError(t, err)
	require.Equal(t, "new", value)
	_, err = Get[uint64](l, "a")
	require.ErrorContains(t, err, "not a uint64")
	_, err = Get[uint64](l, "c")
	require.ErrorContains(t, err, `no pair "c"`)
	_, err = Get[uint64](nil, "c")
	require.Error(t, err)

	raw, err := Marshal(new(List).Set("a", uint64(1)).Set("b", uint64(2)).Set("c", uint64(3)))
	require.NoError(t, err)
	raw[streamHeader+listHeader+2*32+16] = 'a' // the third pair is named as the first
	twice, err := Unmarshal(raw)
	require.NoError(t, err)
	require.Equal(t, new(List).Set("a", uint64(3)).Set("b", uint64(2)), twice)
}

// FuzzUnmarshal: whatever was read is written again and read as the same.
func FuzzUnmarshal(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.hex")
	require.NoError(f, err)
	for _, seed := range seeds {
		f.Add(vector(f, filepath.Base(seed)))
	}
	raw, err := Marshal(everything())
	require.NoError(f, err)
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := Unmarshal(raw)
		if err != nil {
			require.ErrorIs(t, err, ErrFormat)
			return
		}
		again, err := Marshal(l)
		require.NoError(t, err)
		back, err := Unmarshal(again)
		require.NoError(t, err)
		require.Equal(t, l, back)
	})
}
