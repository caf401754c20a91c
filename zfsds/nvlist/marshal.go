package nvlist

import (
	"fmt"
	"math"
	"strings"
)

// Marshal writes a list. ErrFormat for values that have no encoding: other Go types, names that
// are empty or longer than 32766 bytes, text with a NUL in it, more than MaxDepth lists in each
// other, or more than MaxSize bytes.
func Marshal(l *List) ([]byte, error) {
	w := writer{out: []byte{encodingNative, hostEndian(), 0, 0}}
	w.out = order.AppendUint32(w.out, version)
	w.out = order.AppendUint32(w.out, uniqueName)
	if err := w.pairs(l, 0); err != nil {
		return nil, err
	}
	return w.out, nil
}

type writer struct {
	out []byte
}

func (w *writer) pairs(l *List, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("%w: lists in each other, more than %d deep", ErrFormat, MaxDepth)
	}
	for name, value := range l.All() {
		if err := w.pair(name, value, depth); err != nil {
			return fmt.Errorf("pair %q: %w", name, err)
		}
		if len(w.out) > MaxSize {
			return fmt.Errorf("%w: more than %d bytes", ErrFormat, MaxSize)
		}
	}
	w.out = order.AppendUint32(w.out, 0)
	return nil
}

func (w *writer) pair(name string, value any, depth int) error {
	if name == "" || len(name) >= math.MaxInt16 || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: name empty, too long, or with a NUL", ErrFormat)
	}
	e, err := encode(value)
	if err != nil {
		return err
	}
	size := align8(pairHeader+len(name)+1) + align8(len(e.bytes))
	w.out = order.AppendUint32(w.out, uint32(size))
	w.out = order.AppendUint16(w.out, uint16(len(name)+1))
	w.out = order.AppendUint16(w.out, 0)
	w.out = order.AppendUint32(w.out, uint32(e.count))
	w.out = order.AppendUint32(w.out, uint32(e.kind))
	w.padded(append([]byte(name), 0), pairHeader)
	w.padded(e.bytes, 0)
	for _, inner := range e.lists {
		if err := w.pairs(inner, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// padded writes bytes that begin at an offset, up to a multiple of 8.
func (w *writer) padded(b []byte, offset int) {
	w.out = append(w.out, b...)
	for n := offset + len(b); n%8 != 0; n++ {
		w.out = append(w.out, 0)
	}
}

// encoded is a value as a pair holds it.
type encoded struct {
	kind  dataType
	count int
	bytes []byte
	lists []*List // behind the pair
}

func encode(value any) (encoded, error) {
	switch v := value.(type) {
	case Flag:
		return encoded{kind: typeBoolean}, nil
	case *List:
		return lists(typeNvlist, []*List{v})
	case []*List:
		return lists(typeNvlistArray, v)
	case string:
		return text(typeString, []string{v})
	case []string:
		return text(typeStringArray, v)
	}
	if e, ok := single(value); ok {
		return e, nil
	}
	if e, ok := array(value); ok {
		return e, nil
	}
	return encoded{}, fmt.Errorf("%w: a %T has no encoding", ErrFormat, value)
}

func single(value any) (encoded, bool) {
	one := func(kind dataType, b []byte) (encoded, bool) {
		return encoded{kind: kind, count: 1, bytes: b}, true
	}
	switch v := value.(type) {
	case bool:
		return one(typeBooleanValue, order.AppendUint32(nil, boolWord(v)))
	case Byte:
		return one(typeByte, []byte{byte(v)})
	case int8:
		return one(typeInt8, []byte{byte(v)})
	case uint8:
		return one(typeUint8, []byte{v})
	case int16:
		return one(typeInt16, order.AppendUint16(nil, uint16(v)))
	case uint16:
		return one(typeUint16, order.AppendUint16(nil, v))
	case int32:
		return one(typeInt32, order.AppendUint32(nil, uint32(v)))
	case uint32:
		return one(typeUint32, order.AppendUint32(nil, v))
	case int64:
		return one(typeInt64, order.AppendUint64(nil, uint64(v)))
	case uint64:
		return one(typeUint64, order.AppendUint64(nil, v))
	case Time:
		return one(typeHrtime, order.AppendUint64(nil, uint64(v)))
	}
	return encoded{}, false
}

func array(value any) (encoded, bool) {
	switch v := value.(type) {
	case []byte:
		return encoded{kind: typeByteArray, count: len(v), bytes: v}, true
	case Uint8s:
		return encoded{kind: typeUint8Array, count: len(v), bytes: v}, true
	case []int8:
		return elements(typeInt8Array, v, func(b []byte, n int8) []byte { return append(b, byte(n)) })
	case []bool:
		return elements(typeBooleanArray, v, func(b []byte, n bool) []byte { return order.AppendUint32(b, boolWord(n)) })
	case []int16:
		return elements(typeInt16Array, v, func(b []byte, n int16) []byte { return order.AppendUint16(b, uint16(n)) })
	case []uint16:
		return elements(typeUint16Array, v, order.AppendUint16)
	case []int32:
		return elements(typeInt32Array, v, func(b []byte, n int32) []byte { return order.AppendUint32(b, uint32(n)) })
	case []uint32:
		return elements(typeUint32Array, v, order.AppendUint32)
	case []int64:
		return elements(typeInt64Array, v, func(b []byte, n int64) []byte { return order.AppendUint64(b, uint64(n)) })
	case []uint64:
		return elements(typeUint64Array, v, order.AppendUint64)
	}
	return encoded{}, false
}

func elements[T any](kind dataType, values []T, put func([]byte, T) []byte) (encoded, bool) {
	e := encoded{kind: kind, count: len(values)}
	for _, v := range values {
		e.bytes = put(e.bytes, v)
	}
	return e, true
}

// text is strings: an array has room for pointers in front of them.
func text(kind dataType, values []string) (encoded, error) {
	e := encoded{kind: kind, count: len(values)}
	if kind == typeStringArray {
		e.bytes = make([]byte, pointer*len(values))
	}
	for _, v := range values {
		if strings.ContainsRune(v, 0) {
			return e, fmt.Errorf("%w: a string with a NUL in it", ErrFormat)
		}
		e.bytes = append(append(e.bytes, v...), 0)
	}
	return e, nil
}

// lists writes of each list only its struct, with the flags and else without meaning.
func lists(kind dataType, values []*List) (encoded, error) {
	e := encoded{kind: kind, count: len(values), lists: values}
	if kind == typeNvlistArray {
		e.bytes = make([]byte, pointer*len(values))
	}
	for range values {
		at := len(e.bytes)
		e.bytes = append(e.bytes, make([]byte, listStruct)...)
		order.PutUint32(e.bytes[at+4:], uniqueName)
	}
	return e, nil
}

func boolWord(set bool) uint32 {
	if set {
		return 1
	}
	return 0
}
