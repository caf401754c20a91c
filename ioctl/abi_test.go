package ioctl

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// An abiTable says which declarations of one interface must equal the installed
// kernel headers. To add an interface, write one table and one test that calls
// its check:
//
//	func TestLoopABI(t *testing.T) {
//		abiTable{
//			headers: []string{"linux/loop.h"},
//			structs: []abiStruct{{c: "struct loop_config", goType: LoopConfig{}, fields: map[string]string{"BlockSize": "block_size"}}},
//			numbers: map[string]uint64{"LOOP_CONFIGURE": LOOP_CONFIGURE},
//		}.check(t)
//	}
type abiTable struct {
	headers []string
	// setup is C text in front of the rows, such as a #define that a header needs.
	setup   string
	structs []abiStruct
	// numbers maps a C constant expression to the Go value. A signed value is
	// written in its 64-bit two's complement.
	numbers map[string]uint64
	// newer is like numbers for macros (plain names only) that older headers
	// lack: compared where defined, logged where not.
	newer map[string]uint64
}

// An abiStruct pairs a C type with the Go type that mirrors it.
type abiStruct struct {
	// c is the C type: "struct dm_ioctl".
	c string
	// goType is any value of the Go type. Every field but the blank ones
	// is compared, by offset and by size.
	goType any
	// fields maps Go field names to C ones where the C name is not the Go name in
	// snake case (DataSize is data_size). An empty name leaves the
	// field out, for what C cannot take the offset of (bit fields, flexible ends).
	fields map[string]string
	// open is set for a structure that ends in a flexible array in C and is not
	// compared by size.
	open bool
	// newer names a macro without which the headers have no such structure.
	newer string
}

func (table abiTable) check(t *testing.T) {
	t.Helper()
	want := table.want()
	got := table.probe(t)
	for name, value := range want {
		actual, ok := got[name]
		if !ok {
			t.Logf("%s: not in the installed headers", name)
			continue
		}
		if actual != value {
			t.Errorf("%s: the header has %s, the Go declaration %s", name, actual, value)
		}
	}
	for name := range table.numbers {
		require.Contains(t, got, "number\t"+name)
	}
}

// want is what the Go declarations say, in the probe's spelling.
func (table abiTable) want() map[string]string {
	want := map[string]string{}
	for _, s := range table.structs {
		typ := reflect.TypeOf(s.goType)
		if !s.open {
			want["struct\t"+s.c] = fmt.Sprint(typ.Size())
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			if name := s.cField(f.Name); name != "" {
				want["field\t"+s.c+"."+name] = fmt.Sprintf("%d\t%d", f.Offset, f.Type.Size())
			}
		}
	}
	for name, value := range table.numbers {
		want["number\t"+name] = fmt.Sprint(value)
	}
	for name, value := range table.newer {
		want["number\t"+name] = fmt.Sprint(value)
	}
	return want
}

// cField is the C name of a Go field, empty for a field that is not compared.
func (s abiStruct) cField(name string) string {
	if name == "_" {
		return ""
	}
	if c, ok := s.fields[name]; ok {
		return c
	}
	return snakeCase(name)
}

// probe compiles and runs testdata/probe.c with the table's rows and returns its
// lines: "kind\tname" to the rest.
func (table abiTable) probe(t *testing.T) map[string]string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc to read the kernel headers with")
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "headers.inc"), []byte(table.headerText()), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rows.inc"), []byte(table.rowText()), 0o600))
	binary := filepath.Join(dir, "probe")
	output, err := exec.CommandContext(t.Context(), gcc, "-I", dir, "-o", binary, "testdata/probe.c").CombinedOutput()
	require.NoError(t, err, "gcc: %s", output)
	output, err = exec.CommandContext(t.Context(), binary).Output()
	require.NoError(t, err)
	lines := map[string]string{}
	for line := range strings.Lines(string(output)) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		name, value, ok := strings.Cut(rest, "\t")
		require.True(t, ok, "probe printed %q", line)
		lines[kind+"\t"+name] = value
	}
	return lines
}

func (table abiTable) headerText() string {
	var b strings.Builder
	b.WriteString(table.setup + "\n")
	for _, h := range table.headers {
		fmt.Fprintf(&b, "#include <%s>\n", h)
	}
	return b.String()
}

func (table abiTable) rowText() string {
	var b strings.Builder
	for _, s := range table.structs {
		if s.newer != "" {
			fmt.Fprintf(&b, "#ifdef %s\n", s.newer)
		}
		fmt.Fprintf(&b, "STRUCT(%s);\n", s.c)
		typ := reflect.TypeOf(s.goType)
		for i := range typ.NumField() {
			if name := s.cField(typ.Field(i).Name); name != "" {
				fmt.Fprintf(&b, "FIELD(%s, %s);\n", s.c, name)
			}
		}
		if s.newer != "" {
			b.WriteString("#endif\n")
		}
	}
	for name := range table.numbers {
		fmt.Fprintf(&b, "NUMBER(%s);\n", name)
	}
	for name := range table.newer {
		fmt.Fprintf(&b, "#ifdef %s\nNUMBER(%s);\n#endif\n", name, name)
	}
	return b.String()
}

// snakeCase turns DataSize into data_size; digits stay with what they follow.
func snakeCase(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
