package dm

import (
	"errors"
	"fmt"
	"strings"
)

// A Target is what a stretch of a device maps to: one of this package's types
// ([Linear], [ThinPool], ...) or [Raw] for any other.
type Target interface {
	// Type is the target's name as the kernel registers it: "thin-pool".
	Type() string
	// Params is the rest of the table line, in the kernel's grammar.
	Params() string
}

// A Row maps Length sectors from Start on to a target.
type Row struct {
	Start, Length Sectors
	Target        Target
}

// A Table is a device's whole mapping: rows without gaps from sector 0.
type Table []Row

// NewTable is the table of one target over a whole device.
func NewTable(length Sectors, target Target) Table {
	return Table{{Length: length, Target: target}}
}

// Append adds length sectors of target behind the table's last row.
func (t Table) Append(length Sectors, target Target) Table {
	return append(t, Row{Start: t.Length(), Length: length, Target: target})
}

// Length is the device's size.
func (t Table) Length() Sectors {
	if len(t) == 0 {
		return 0
	}
	last := t[len(t)-1]
	return last.Start + last.Length
}

// Validate reports what the kernel would refuse with a bare EINVAL: an empty table
// or row, a gap, a type or parameters that do not fit the wire. It wraps [ErrInvalid].
func (t Table) Validate() error {
	if len(t) == 0 {
		return fmt.Errorf("%w: table has no rows", ErrInvalid)
	}
	var next Sectors
	for i, row := range t {
		if err := row.validate(next); err != nil {
			return fmt.Errorf("%w: table row %d: %w", ErrInvalid, i, err)
		}
		next = row.Start + row.Length
	}
	return nil
}

// Line is a row in the kernel's words.
func (r Row) Line() Line {
	return Line{Start: r.Start, Length: r.Length, Type: r.Target.Type(), Params: r.Target.Params()}
}

func (r Row) validate(start Sectors) error {
	switch {
	case r.Target == nil:
		return errors.New("no target")
	case r.Length == 0:
		return errors.New("length is 0")
	case r.Start != start:
		return fmt.Errorf("starts at sector %d, want %d", r.Start, start)
	case r.Start+r.Length < r.Start:
		return errors.New("ends beyond the last sector")
	case r.Target.Type() == "" || len(r.Target.Type()) >= maxTypeName:
		return fmt.Errorf("target type %q is not 1 to %d bytes long", r.Target.Type(), maxTypeName-1)
	case strings.ContainsRune(r.Target.Type()+r.Target.Params(), 0):
		return errors.New("target has a NUL byte")
	}
	if v, ok := r.Target.(validator); ok {
		return v.validate()
	}
	return nil
}

// A validator is a target that knows limits of its own.
type validator interface {
	validate() error
}

// A Line is a row of a table or of a status as the kernel prints it.
type Line struct {
	Start, Length Sectors
	// Type is the target's name.
	Type string
	// Params is the rest: of a table the target's parameters, of a status its state.
	Params string
}

// String is the line as dmsetup prints and reads it: "0 2048 linear 7:0 0".
func (l Line) String() string {
	return strings.TrimRight(fmt.Sprintf("%d %d %s %s", l.Start, l.Length, l.Type, l.Params), " ")
}

// ParseLine is the inverse of [Line.String].
func ParseLine(text string) (Line, error) {
	text = strings.TrimSpace(text)
	start, rest, _ := strings.Cut(text, " ")
	length, rest, _ := strings.Cut(rest, " ")
	kind, params, _ := strings.Cut(rest, " ")
	if kind == "" {
		return Line{}, fmt.Errorf("%w: line %q has fewer than three words", ErrSyntax, text)
	}
	first, err := parseUint(start, 64)
	if err != nil {
		return Line{}, fmt.Errorf("%w: line's start: %w", ErrSyntax, err)
	}
	count, err := parseUint(length, 64)
	if err != nil {
		return Line{}, fmt.Errorf("%w: line's length: %w", ErrSyntax, err)
	}
	return Line{Start: Sectors(first), Length: Sectors(count), Type: kind, Params: strings.TrimSpace(params)}, nil
}

// ParseTable is the inverse of [Row.Line] for all lines of a table, as
// [Client.Table] returns them. A type that this package does not know becomes
// [Raw]; unknown words in a type that it knows are an error.
func ParseTable(lines []Line) (Table, error) {
	table := make(Table, 0, len(lines))
	for _, line := range lines {
		target, err := ParseTarget(line.Type, line.Params)
		if err != nil {
			return nil, err
		}
		table = append(table, Row{Start: line.Start, Length: line.Length, Target: target})
	}
	return table, nil
}
