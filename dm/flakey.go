package dm

import (
	"fmt"
	"strings"
)

// Flakey is a device that works for Up seconds, then misbehaves for Down seconds, and so
// on. Kernel: admin-guide/device-mapper/dm-flakey.rst. Without any feature
// the kernel fails reads and writes while down.
type Flakey struct {
	Device   Number
	Offset   Sectors
	Up, Down Seconds
	// ErrorReads fails reads while down (newer than Linux 6.1).
	ErrorReads bool
	// ErrorWrites fails writes while down; not together with DropWrites.
	ErrorWrites bool
	// DropWrites loses writes while down and reports success.
	DropWrites bool
	// Corrupt, if set, changes one byte of each matching request while down.
	Corrupt *CorruptByte
	// RandomReadCorrupt and RandomWriteCorrupt are chances per 1e9 of a corrupted
	// byte (newer than Linux 6.1).
	RandomReadCorrupt, RandomWriteCorrupt uint32
}

// CorruptByte is flakey's corrupt_bio_byte.
type CorruptByte struct {
	// Nth is the byte's position in the request's data, from 1.
	Nth uint32
	// Writes corrupts writes instead of reads.
	Writes bool
	// Value replaces the byte.
	Value uint8
	// Flags are the request flags (the kernel's bi_opf) that must all be set, 0 for any.
	Flags uint32
}

// Type is "flakey".
func (Flakey) Type() string { return "flakey" }

// Params is "<device> <offset> <up> <down> <number of feature words> <feature>...".
func (t Flakey) Params() string {
	features := t.features()
	text := fmt.Sprintf("%s %d %d %d", t.Device, t.Offset, t.Up, t.Down)
	if len(features) == 0 {
		return text
	}
	return fmt.Sprintf("%s %d %s", text, len(features), strings.Join(features, " "))
}

func (t Flakey) features() []string {
	var words []string
	add := func(on bool, word string) {
		if on {
			words = append(words, strings.Fields(word)...)
		}
	}
	add(t.ErrorReads, "error_reads")
	add(t.DropWrites, "drop_writes")
	add(t.ErrorWrites, "error_writes")
	if c := t.Corrupt; c != nil {
		add(true, fmt.Sprintf("corrupt_bio_byte %d %s %d %d", c.Nth, map[bool]string{true: "w", false: "r"}[c.Writes], c.Value, c.Flags))
	}
	add(t.RandomReadCorrupt > 0, fmt.Sprintf("random_read_corrupt %d", t.RandomReadCorrupt))
	add(t.RandomWriteCorrupt > 0, fmt.Sprintf("random_write_corrupt %d", t.RandomWriteCorrupt))
	return words
}

func (t Flakey) validate() error {
	if t.ErrorWrites && t.DropWrites {
		return fmt.Errorf("flakey cannot both fail and drop writes")
	}
	return nil
}

func (w *words) flakey() Flakey {
	l := w.linear("")
	t := Flakey{
		Device: l.Device, Offset: l.Offset,
		Up: Seconds(w.number("up", 32)), Down: Seconds(w.number("down", 32)),
	}
	if !w.more() {
		return t
	}
	count := w.number("feature count", 32)
	if w.err == nil && count != uint64(len(w.rest)) {
		w.fail("feature count", fmt.Sprint(count))
	}
	for w.more() {
		w.flakeyFeature(&t)
	}
	w.check(t.validate())
	return t
}

func (w *words) flakeyFeature(t *Flakey) {
	switch word := w.next("feature"); word {
	case "error_reads":
		t.ErrorReads = true
	case "error_writes":
		t.ErrorWrites = true
	case "drop_writes":
		t.DropWrites = true
	case "corrupt_bio_byte":
		t.Corrupt = w.corruptByte()
	case "random_read_corrupt":
		t.RandomReadCorrupt = uint32(w.number(word, 32))
	case "random_write_corrupt":
		t.RandomWriteCorrupt = uint32(w.number(word, 32))
	default:
		w.fail("feature", word)
	}
}

func (w *words) corruptByte() *CorruptByte {
	c := CorruptByte{Nth: uint32(w.number("corrupt byte's position", 32))}
	switch word := w.next("corrupt direction"); word {
	case "r", "R":
	case "w", "W":
		c.Writes = true
	default:
		w.fail("corrupt direction", word)
	}
	c.Value = uint8(w.number("corrupt value", 8))
	c.Flags = uint32(w.number("corrupt flags", 32))
	return &c
}
