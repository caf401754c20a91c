package dm

import (
	"fmt"
	"strconv"
	"strings"
)

// Raw is a target of any type, in the kernel's words.
type Raw struct {
	Kind, Text string
}

// Type is the target's name.
func (r Raw) Type() string { return r.Kind }

// Params is the text as given.
func (r Raw) Params() string { return r.Text }

// Linear maps to a stretch of another device. Kernel: admin-guide/device-mapper/linear.rst.
type Linear struct {
	Device Number
	Offset Sectors
}

// Type is "linear".
func (Linear) Type() string { return "linear" }

// Params is "<device> <offset>".
func (t Linear) Params() string { return fmt.Sprintf("%s %d", t.Device, t.Offset) }

// Striped spreads chunks over devices in turn. Kernel: admin-guide/device-mapper/striped.rst.
type Striped struct {
	// Chunk is the chunk's size, a power of two and at least a page.
	Chunk Sectors
	// Stripes are where each stripe begins; at least one.
	Stripes []Linear
}

// Type is "striped".
func (Striped) Type() string { return "striped" }

// Params is "<stripes> <chunk> (<device> <offset>)...".
func (t Striped) Params() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d", len(t.Stripes), t.Chunk)
	for _, s := range t.Stripes {
		b.WriteString(" " + s.Params())
	}
	return b.String()
}

func (t Striped) validate() error {
	if len(t.Stripes) == 0 || t.Chunk == 0 {
		return fmt.Errorf("striped has %d stripes of %d sectors", len(t.Stripes), t.Chunk)
	}
	return nil
}

// Zero reads as zeroes and drops writes. Kernel: admin-guide/device-mapper/zero.rst.
type Zero struct{}

// Type is "zero".
func (Zero) Type() string { return "zero" }

// Params is empty.
func (Zero) Params() string { return "" }

// ErrorTarget fails all I/O (dm-target.c's "error").
type ErrorTarget struct{}

// Type is "error".
func (ErrorTarget) Type() string { return "error" }

// Params is empty.
func (ErrorTarget) Params() string { return "" }

// LogWrites records each write of a device on another one, for replay. Kernel:
// admin-guide/device-mapper/log-writes.rst.
type LogWrites struct {
	Device, Log Number
}

// Type is "log-writes".
func (LogWrites) Type() string { return "log-writes" }

// Params is "<device> <log device>".
func (t LogWrites) Params() string { return fmt.Sprintf("%s %s", t.Device, t.Log) }

// A DelayPath is where one class of I/O goes and how long it is held back.
type DelayPath struct {
	Device Number
	Offset Sectors
	Delay  Milliseconds
}

func (p DelayPath) params() string { return fmt.Sprintf("%s %d %d", p.Device, p.Offset, p.Delay) }

// Delay holds I/O back. Kernel: admin-guide/device-mapper/delay.rst.
type Delay struct {
	// Read is for reads, and for writes and flushes that have no path of their own.
	Read DelayPath
	// Write, if set, is for writes, and for flushes without their own.
	Write *DelayPath
	// Flush, if set, is for flushes; it needs Write.
	Flush *DelayPath
}

// Type is "delay".
func (Delay) Type() string { return "delay" }

// Params is one to three of "<device> <offset> <ms>".
func (t Delay) Params() string {
	text := t.Read.params()
	if t.Write != nil {
		text += " " + t.Write.params()
	}
	if t.Write != nil && t.Flush != nil {
		text += " " + t.Flush.params()
	}
	return text
}

func (t Delay) validate() error {
	if t.Flush != nil && t.Write == nil {
		return fmt.Errorf("delay has a path for flushes but none for writes")
	}
	return nil
}

// ParseTarget is the inverse of a target's Type and Params: it reads what the kernel prints
// in a table. A type that this package does not know becomes [Raw]; an unknown
// word in one that it knows is [ErrSyntax], naming the field; a target that prints
// its failure instead is [ErrFailed].
func ParseTarget(kind, params string) (Target, error) {
	w := newWords(kind, params)
	var target Target
	switch kind {
	case Linear{}.Type():
		target = w.linear("")
	case Striped{}.Type():
		target = w.striped()
	case Zero{}.Type():
		target = Zero{}
	case ErrorTarget{}.Type():
		target = ErrorTarget{}
	case Flakey{}.Type():
		target = w.flakey()
	case LogWrites{}.Type():
		target = LogWrites{Device: w.device("device"), Log: w.device("log device")}
	case Delay{}.Type():
		target = w.delay()
	case ThinPool{}.Type():
		target = w.thinPool()
	case Thin{}.Type():
		target = w.thin()
	default:
		return Raw{Kind: kind, Text: params}, nil
	}
	if err := w.end(); err != nil {
		return nil, err
	}
	return target, nil
}

func (w *words) linear(field string) Linear {
	return Linear{Device: w.device(field + "device"), Offset: Sectors(w.number(field+"offset", 64))}
}

func (w *words) striped() Striped {
	count := w.number("stripes", 32)
	t := Striped{Chunk: Sectors(w.number("chunk", 64))}
	for i := uint64(0); i < count && w.err == nil; i++ {
		t.Stripes = append(t.Stripes, w.linear("stripe "+strconv.FormatUint(i, 10)+" "))
	}
	w.check(t.validate())
	return t
}

func (w *words) delay() Delay {
	path := func(field string) DelayPath {
		l := w.linear(field)
		return DelayPath{Device: l.Device, Offset: l.Offset, Delay: Milliseconds(w.number(field+"delay", 32))}
	}
	t := Delay{Read: path("read ")}
	if w.more() {
		p := path("write ")
		t.Write = &p
	}
	if w.more() {
		p := path("flush ")
		t.Flush = &p
	}
	return t
}
