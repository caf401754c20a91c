package dm

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// corpus is the lines of a file of what real kernels have printed.
func corpus(t testing.TB, name string) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/corpus/" + name)
	require.NoError(t, err)
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// canonical is a text without the spaces that kernels print at its end.
func canonical(text string) string { return strings.Join(strings.Fields(text), " ") }

// A grammar is a parser and its inverse.
type grammar struct {
	file  string
	parse func(string) (string, error) // parses and prints again
}

func grammars() map[string]grammar {
	return map[string]grammar{
		"thin-pool status":  {"thin-pool-status.txt", reprint(ParseThinPoolStatus)},
		"thin status":       {"thin-status.txt", reprint(ParseThinStatus)},
		"log-writes status": {"log-writes-status.txt", reprint(ParseLogWritesStatus)},
	}
}

func reprint[T interface{ String() string }](parse func(string) (T, error)) func(string) (string, error) {
	return func(text string) (string, error) {
		value, err := parse(text)
		if err != nil {
			return "", err
		}
		return value.String(), nil
	}
}

func TestKernelWordsArePrintedBack(t *testing.T) {
	for name, g := range grammars() {
		for _, line := range corpus(t, g.file) {
			printed, err := g.parse(line)
			require.NoError(t, err, "%s %q", name, line)
			require.Equal(t, canonical(line), printed)
		}
	}
}

func TestThinPoolStatus(t *testing.T) {
	low := MetadataBlocks(256)
	for text, want := range map[string]ThinPoolStatus{
		"Fail":  {Mode: PoolFail},
		"Error": {Mode: PoolError},
		"5 112/1024 1/16 18 ro no_discard_passdown error_if_no_space needs_check 256 ": {
			Mode: PoolReadOnly, TransactionID: 5, MetadataUsed: 112, MetadataTotal: 1024, DataUsed: 1, DataTotal: 16,
			HeldRoot: 18, Discard: NoDiscardPassdown, Full: ErrorIfNoSpace, NeedsCheck: true, MetadataLowWater: &low,
		},
		"0 1/2 3/4 - rw discard_passdown queue_if_no_space -": { // before Linux 4.19
			MetadataUsed: 1, MetadataTotal: 2, DataUsed: 3, DataTotal: 4,
		},
	} {
		got, err := ParseThinPoolStatus(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
	}
}

// TestUnknownWords: what is not in the grammar is an error that names field and value.
func TestUnknownWords(t *testing.T) {
	pool, thin, log := reprint(ParseThinPoolStatus), reprint(ParseThinStatus), reprint(ParseLogWritesStatus)
	for _, c := range []struct {
		parse      func(string) (string, error)
		text, want string
	}{
		{pool, "", "thin-pool status: unknown device-mapper text: transaction id is missing"},
		{pool, "Broken", `transaction id is "Broken"`},
		{pool, "0 1/2 3/4 - rw discard_passdown queue_if_no_space", "check is missing"},
		{pool, "0 12 3/4 - rw discard_passdown queue_if_no_space -", `metadata blocks is "12"`},
		{pool, "0 1/2 3/-4 - rw discard_passdown queue_if_no_space -", `data blocks is "3/-4"`},
		{pool, "0 1/2 3/4 0 rw discard_passdown queue_if_no_space -", `held root is "0"`},
		{pool, "0 1/2 3/4 - wo discard_passdown queue_if_no_space -", `mode is "wo"`},
		{pool, "0 1/2 3/4 - Fail discard_passdown queue_if_no_space -", `mode is "Fail"`},
		{pool, "0 1/2 3/4 - rw discards queue_if_no_space -", `discard mode is "discards"`},
		{pool, "0 1/2 3/4 - rw discard_passdown wait -", `full policy is "wait"`},
		{pool, "0 1/2 3/4 - rw discard_passdown queue_if_no_space check", `check is "check"`},
		{pool, "0 1/2 3/4 - rw discard_passdown queue_if_no_space - x", `metadata low water is "x"`},
		{pool, "0 1/2 3/4 - rw discard_passdown queue_if_no_space - 1 2", `superfluous word is "2"`},
		{thin, "", "thin status: unknown device-mapper text: mapped sectors is missing"},
		{thin, "12", "highest sector is missing"},
		{thin, "12 x", `highest sector is "x"`},
		{thin, "+1 2", `mapped sectors is "+1"`},
		{thin, "01 2", `mapped sectors is "01"`},
		{log, "1 2 stopped", `state is "stopped"`},
	} {
		_, err := c.parse(c.text)
		require.ErrorIs(t, err, ErrSyntax, c.text)
		require.ErrorContains(t, err, c.want)
	}
}

func TestTargetsArePrintedBack(t *testing.T) {
	path := DelayPath{Device: Number{7, 0}, Offset: 8, Delay: 9}
	for _, want := range []Target{
		Linear{Device: Number{253, 1048575}, Offset: 1 << 60},
		Striped{Chunk: 128, Stripes: []Linear{{Device: Number{8, 1}}, {Device: Number{8, 2}, Offset: 5}}},
		Zero{},
		ErrorTarget{},
		LogWrites{Device: Number{1, 2}, Log: Number{3, 4}},
		Delay{Read: path},
		Delay{Read: path, Write: &path},
		Delay{Read: path, Write: &path, Flush: &path},
		Flakey{Device: Number{7, 0}, Offset: 1, Up: 2, Down: 3},
		Flakey{
			Device: Number{7, 0}, Up: 2, Down: 3, ErrorReads: true, ErrorWrites: true,
			Corrupt: &CorruptByte{Nth: 32, Writes: true, Value: 255, Flags: 9}, RandomReadCorrupt: 4, RandomWriteCorrupt: 5,
		},
		Flakey{Device: Number{7, 0}, DropWrites: true},
		ThinPool{Metadata: Number{7, 0}, Data: Number{7, 1}, BlockSize: 128, LowWater: 9},
		ThinPool{
			Metadata: Number{7, 0}, Data: Number{7, 1}, BlockSize: 128, SkipBlockZeroing: true, IgnoreDiscard: true,
			NoDiscardPassdown: true, ErrorIfNoSpace: true,
		},
		Thin{Pool: Number{254, 0}, ID: MaxDeviceID},
		Thin{Pool: Number{254, 0}, Origin: Number{7, 3}},
		Raw{Kind: "era", Text: "whatever it is"},
	} {
		got, err := ParseTarget(want.Type(), want.Params())
		require.NoError(t, err, want.Params())
		require.Equal(t, want, got)
	}
}

func TestTargetSyntax(t *testing.T) {
	for line, want := range map[string]string{
		"linear 7:0":                     "linear: unknown device-mapper text: offset is missing",
		"linear /dev/sda 0":              `device is "/dev/sda"`,
		"linear 7:x 0":                   `device is "7:x"`,
		"linear 7:0 0 0":                 `superfluous word is "0"`,
		"zero 0":                         `superfluous word is "0"`,
		"striped 2 16 7:0 0":             "stripe 1 device is missing",
		"striped 0 16":                   "striped has 0 stripes",
		"striped 4000000000 16":          "stripe 0 device is missing",
		"flakey 7:0 0 1 1 2 drop_writes": `feature count is "2"`,
		"flakey 7:0 0 1 1 1 explode":     `feature is "explode"`,
		"flakey 7:0 0 1 1 5 corrupt_bio_byte 32 x 1 0":  `corrupt direction is "x"`,
		"flakey 7:0 0 1 1 5 corrupt_bio_byte 1 r 256 0": `corrupt value is "256"`,
		"flakey 7:0 0 1 1 2 drop_writes error_writes":   "cannot both",
		"thin-pool 7:0 7:1 128 4 1 fast":                `feature is "fast"`,
		"thin-pool 7:0 7:1 128 4 2 read_only":           `feature count is "2"`,
		"thin 254:1 16777216":                           `id is "16777216"`,
		"thin 254:1 1 7:0 x":                            `superfluous word is "x"`,
		"delay 7:0 0 5 7:0":                             "write offset is missing",
	} {
		kind, params, _ := strings.Cut(line, " ")
		_, err := ParseTarget(kind, params)
		require.ErrorIs(t, err, ErrSyntax, line)
		require.ErrorContains(t, err, want)
	}
}

func TestFailedTables(t *testing.T) {
	for _, line := range []string{"thin Fail", "thin -", "thin-pool Fail", "thin-pool Error"} {
		kind, params, _ := strings.Cut(line, " ")
		_, err := ParseTarget(kind, params)
		require.ErrorIs(t, err, ErrFailed, line)
	}
}

func TestLines(t *testing.T) {
	for _, text := range []string{"0 2048 linear 7:0 0", "0 8 zero"} {
		line, err := ParseLine(text)
		require.NoError(t, err)
		require.Equal(t, text, line.String())
	}
	for _, bad := range []string{"", "0 8", "x 8 zero", "0 -8 zero", "0 8 "} {
		_, err := ParseLine(bad)
		require.ErrorIs(t, err, ErrSyntax, bad)
	}
}

func TestNumbers(t *testing.T) {
	for _, n := range []Number{{}, {254, 0}, {259, 1048575}, {4095, 300}} {
		read, err := ParseNumber(n.String())
		require.NoError(t, err)
		require.Equal(t, n, read)
		require.Equal(t, n, NumberOf(n.Dev()))
	}
	for _, bad := range []string{"", "7", "7:", ":7", "7:0:0", "-7:0", "7:4294967296", "07:0"} {
		_, err := ParseNumber(bad)
		require.Error(t, err, bad)
	}
	require.Equal(t, Sectors(2), SectorsOf(1535))
	require.Equal(t, uint64(1024), Sectors(2).Bytes())
}

func FuzzThinPoolStatus(f *testing.F) { fuzzGrammar(f, grammars()["thin-pool status"]) }

func FuzzThinStatus(f *testing.F) { fuzzGrammar(f, grammars()["thin status"]) }

func FuzzLogWritesStatus(f *testing.F) { fuzzGrammar(f, grammars()["log-writes status"]) }

// fuzzGrammar: whatever is accepted is printed back as it was read.
func fuzzGrammar(f *testing.F, g grammar) {
	for _, line := range corpus(f, g.file) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		printed, err := g.parse(text)
		if err != nil {
			require.ErrorIs(t, err, ErrSyntax)
			return
		}
		require.Equal(t, canonical(text), printed)
	})
}

func FuzzTarget(f *testing.F) {
	for _, line := range corpus(f, "table.txt") {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		kind, params, _ := strings.Cut(text, " ")
		target, err := ParseTarget(kind, params)
		if err != nil {
			return
		}
		require.Equal(t, kind, target.Type())
		again, err := ParseTarget(kind, target.Params())
		require.NoError(t, err)
		require.Equal(t, target, again)
	})
}

func FuzzLine(f *testing.F) {
	f.Add("0 2048 linear 7:0 0")
	f.Add(" 8 8 zero ")
	f.Fuzz(func(t *testing.T, text string) {
		line, err := ParseLine(text)
		if err != nil {
			require.ErrorIs(t, err, ErrSyntax)
			return
		}
		again, err := ParseLine(line.String())
		require.NoError(t, err)
		require.Equal(t, line, again)
	})
}

// FuzzReplies: a reply that is cut or scrambled is an error, never a panic or an endless loop.
func FuzzReplies(f *testing.F) {
	for _, reply := range wireReplies(f) {
		f.Add(reply, 2)
	}
	f.Fuzz(func(t *testing.T, data []byte, count int) {
		count = min(max(count, 0), 1000)
		for _, decode := range []func() error{
			func() error { _, err := decodeLines(data, count); return err },
			func() error { _, err := decodeDeps(data); return err },
			func() error { _, err := decodeTargets(data); return err },
			func() error { _, err := decodeList(data, 48); return err },
			func() error { _, err := decodeList(data, 10); return err },
		} {
			if err := decode(); err != nil {
				require.ErrorIs(t, err, ErrSyntax)
			}
		}
	})
}
