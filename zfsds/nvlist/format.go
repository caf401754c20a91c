package nvlist

import (
	"encoding/binary"
	"errors"
)

// Bounds of both directions.
const (
	// MaxSize bounds an encoded list. The largest answers of /dev/zfs, the
	// configurations of all pools, are some hundred KiB.
	MaxSize = 64 << 20
	// MaxDepth bounds lists in lists. The kernel refuses more than 20.
	MaxDepth = 20
)

// ErrFormat is what unreadable input, and lists that have no encoding, wrap.
var ErrFormat = errors.New("malformed nvlist")

// A dataType is data_type_t of sys/nvpair.h.
type dataType int32

const (
	typeBoolean      dataType = 1
	typeByte         dataType = 2
	typeInt16        dataType = 3
	typeUint16       dataType = 4
	typeInt32        dataType = 5
	typeUint32       dataType = 6
	typeInt64        dataType = 7
	typeUint64       dataType = 8
	typeString       dataType = 9
	typeByteArray    dataType = 10
	typeInt16Array   dataType = 11
	typeUint16Array  dataType = 12
	typeInt32Array   dataType = 13
	typeUint32Array  dataType = 14
	typeInt64Array   dataType = 15
	typeUint64Array  dataType = 16
	typeStringArray  dataType = 17
	typeHrtime       dataType = 18
	typeNvlist       dataType = 19
	typeNvlistArray  dataType = 20
	typeBooleanValue dataType = 21
	typeInt8         dataType = 22
	typeUint8        dataType = 23
	typeBooleanArray dataType = 24
	typeInt8Array    dataType = 25
	typeUint8Array   dataType = 26
)

// The layout. A stream begins with four bytes (encoding, byte order, two zeros), a
// version and flags; pairs follow, and a size of 0 ends them. A pair is
//
//	size of the pair in bytes int32, of the name with its NUL int16, 0 int16,
//	number of elements int32, type int32, name, value
//
// with name and value each padded so that what follows lies at a multiple of 8. A list
// as a value is a struct nvlist_t without meaning, and its own pairs, with their end,
// stand behind the pair and do not count in its size.
const (
	streamHeader = 4
	listHeader   = 8
	pairHeader   = 16
	endMark      = 4
	listStruct   = 24 // sizeof (nvlist_t)
	pointer      = 8

	encodingNative = 0
	bigEndian      = 0
	littleEndian   = 1

	version    = 0 // NV_VERSION
	uniqueName = 1 // NV_UNIQUE_NAME
)

// order is the machine's: the kernel reads no other in the native encoding.
var order = binary.NativeEndian

// hostEndian is the mark of the machine's byte order.
func hostEndian() byte {
	if order.Uint16([]byte{1, 0}) == 1 {
		return littleEndian
	}
	return bigEndian
}

// align8 rounds up to a multiple of 8.
func align8(n int) int { return (n + 7) &^ 7 }
