package nvlist

import (
	"bytes"
	"fmt"
)

// Unmarshal reads a list from the beginning of data. The kernel fills a buffer in
// part; what follows the list is not looked at. ErrFormat for what is no list in the
// native encoding and this machine's byte order, or is beyond the package's bounds.
func Unmarshal(data []byte) (*List, error) {
	if len(data) > MaxSize {
		data = data[:MaxSize]
	}
	r := reader{rest: data}
	head, err := r.take(streamHeader + listHeader)
	if err != nil {
		return nil, err
	}
	if head[0] != encodingNative || head[1] != hostEndian() {
		return nil, fmt.Errorf("%w: encoding %d, byte order %d: not the native one of this machine", ErrFormat, head[0], head[1])
	}
	if v := order.Uint32(head[streamHeader:]); v != version {
		return nil, fmt.Errorf("%w: version %d is not known", ErrFormat, v)
	}
	return r.list(0)
}

// reader takes bytes from the front of what is left.
type reader struct {
	rest []byte
}

func (r *reader) take(n int) ([]byte, error) {
	if n < 0 || n > len(r.rest) {
		return nil, fmt.Errorf("%w: %d bytes wanted, %d left", ErrFormat, n, len(r.rest))
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken, nil
}

func (r *reader) list(depth int) (*List, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("%w: lists in each other, more than %d deep", ErrFormat, MaxDepth)
	}
	l := &List{}
	seen := map[string]int{}
	for {
		name, value, err := r.pair(depth)
		if err != nil {
			return nil, err
		}
		if name == "" {
			return l, nil
		}
		// Of a name that is there twice the last value counts, as nvlist_add does it.
		if at, twice := seen[name]; twice {
			l.pairs[at].value = value
			continue
		}
		seen[name] = len(l.pairs)
		l.pairs = append(l.pairs, pair{name, value})
	}
}

// pair reads one pair, or the end of the list: then its name is empty.
func (r *reader) pair(depth int) (string, any, error) {
	word, err := r.take(endMark)
	if err != nil {
		return "", nil, err
	}
	size := int(int32(order.Uint32(word)))
	if size == 0 {
		return "", nil, nil
	}
	if size < pairHeader || size%8 != 0 {
		return "", nil, fmt.Errorf("%w: a pair of %d bytes", ErrFormat, size)
	}
	body, err := r.take(size - endMark)
	if err != nil {
		return "", nil, err
	}
	nameSize := int(int16(order.Uint16(body)))
	count := int(int32(order.Uint32(body[4:])))
	kind := dataType(order.Uint32(body[8:]))
	valueAt := align8(pairHeader+nameSize) - endMark
	if nameSize < 2 || valueAt > len(body) {
		return "", nil, fmt.Errorf("%w: a name of %d bytes in a pair of %d", ErrFormat, nameSize, size)
	}
	raw := body[pairHeader-endMark:][:nameSize]
	if bytes.IndexByte(raw, 0) != nameSize-1 {
		return "", nil, fmt.Errorf("%w: a name does not end where it should", ErrFormat)
	}
	name := string(raw[:nameSize-1])
	value, err := r.value(kind, count, body[valueAt:], depth)
	if err != nil {
		return "", nil, fmt.Errorf("pair %q: %w", name, err)
	}
	return name, value, nil
}

// value decodes what a pair holds. The padding behind it is not looked at.
func (r *reader) value(kind dataType, count int, b []byte, depth int) (any, error) {
	if count < 0 {
		return nil, fmt.Errorf("%w: %d elements", ErrFormat, count)
	}
	switch kind {
	case typeBoolean:
		return Flag{}, nil
	case typeString:
		values, err := textsOf(b, 1)
		if err != nil {
			return nil, err
		}
		return values[0], nil
	case typeStringArray:
		if count > len(b)/(pointer+1) {
			return nil, short(count, len(b))
		}
		return textsOf(b[pointer*count:], count)
	case typeNvlist:
		if len(b) < listStruct {
			return nil, short(1, len(b))
		}
		return r.list(depth + 1)
	case typeNvlistArray:
		if count > len(b)/(pointer+listStruct) {
			return nil, short(count, len(b))
		}
		return r.lists(count, depth)
	}
	if value, known, err := one(kind, b); known {
		return value, err
	}
	return many(kind, count, b)
}

func short(count, have int) error {
	return fmt.Errorf("%w: %d elements in %d bytes", ErrFormat, count, have)
}

func (r *reader) lists(count, depth int) ([]*List, error) {
	all := make([]*List, count)
	for i := range all {
		l, err := r.list(depth + 1)
		if err != nil {
			return nil, err
		}
		all[i] = l
	}
	return all, nil
}

func textsOf(b []byte, count int) ([]string, error) {
	all := make([]string, count)
	for i := range all {
		s, rest, ok := bytes.Cut(b, []byte{0})
		if !ok {
			return nil, fmt.Errorf("%w: a string without an end", ErrFormat)
		}
		all[i], b = string(s), rest
	}
	return all, nil
}

// one decodes single numbers; known says whether kind is one.
func one(kind dataType, b []byte) (value any, known bool, err error) {
	var size int
	switch kind {
	case typeByte, typeInt8, typeUint8:
		size = 1
	case typeInt16, typeUint16:
		size = 2
	case typeInt32, typeUint32, typeBooleanValue:
		size = 4
	case typeInt64, typeUint64, typeHrtime:
		size = 8
	default:
		return nil, false, nil
	}
	if len(b) < size {
		return nil, true, short(1, len(b))
	}
	switch kind {
	case typeByte:
		value = Byte(b[0])
	case typeInt8:
		value = int8(b[0])
	case typeUint8:
		value = b[0]
	case typeInt16:
		value = int16(order.Uint16(b))
	case typeUint16:
		value = order.Uint16(b)
	case typeInt32:
		value = int32(order.Uint32(b))
	case typeUint32:
		value = order.Uint32(b)
	case typeBooleanValue:
		value = order.Uint32(b) != 0
	case typeInt64:
		value = int64(order.Uint64(b))
	case typeUint64:
		value = order.Uint64(b)
	case typeHrtime:
		value = Time(order.Uint64(b))
	}
	return value, true, nil
}

func many(kind dataType, count int, b []byte) (any, error) {
	switch kind {
	case typeByteArray:
		return array8(b, count, func(c byte) byte { return c })
	case typeUint8Array:
		all, err := array8(b, count, func(c byte) byte { return c })
		return Uint8s(all), err
	case typeInt8Array:
		return array8(b, count, func(c byte) int8 { return int8(c) })
	case typeBooleanArray:
		return arrayOf(b, count, 4, func(b []byte) bool { return order.Uint32(b) != 0 })
	case typeInt16Array:
		return arrayOf(b, count, 2, func(b []byte) int16 { return int16(order.Uint16(b)) })
	case typeUint16Array:
		return arrayOf(b, count, 2, order.Uint16)
	case typeInt32Array:
		return arrayOf(b, count, 4, func(b []byte) int32 { return int32(order.Uint32(b)) })
	case typeUint32Array:
		return arrayOf(b, count, 4, order.Uint32)
	case typeInt64Array:
		return arrayOf(b, count, 8, func(b []byte) int64 { return int64(order.Uint64(b)) })
	case typeUint64Array:
		return arrayOf(b, count, 8, order.Uint64)
	}
	return nil, fmt.Errorf("%w: type %d is not known", ErrFormat, kind)
}

func array8[T any](b []byte, count int, get func(byte) T) ([]T, error) {
	return arrayOf(b, count, 1, func(b []byte) T { return get(b[0]) })
}

func arrayOf[T any](b []byte, count, size int, get func([]byte) T) ([]T, error) {
	if count > len(b)/size {
		return nil, short(count, len(b))
	}
	all := make([]T, count)
	for i := range all {
		all[i] = get(b[i*size:])
	}
	return all, nil
}
