// Package nvlist reads and writes OpenZFS's name-value lists in the native
// encoding, in which /dev/zfs takes its arguments and gives its results.
//
// # Words
//
// As nvlist_alloc(3) of libnvpair has them: a list holds pairs; a pair is a name, a
// type and a value; a value may be a list again. What Go type stands for what:
//
//	Flag (no value)     DATA_TYPE_BOOLEAN          bool       DATA_TYPE_BOOLEAN_VALUE
//	int8 … int64        DATA_TYPE_INT8 … INT64     []int8 …   DATA_TYPE_INT8_ARRAY …
//	uint8 … uint64      DATA_TYPE_UINT8 … UINT64   []uint16 … DATA_TYPE_UINT16_ARRAY …
//	Byte                DATA_TYPE_BYTE             []byte     DATA_TYPE_BYTE_ARRAY
//	string              DATA_TYPE_STRING           []string   DATA_TYPE_STRING_ARRAY
//	*List               DATA_TYPE_NVLIST           []*List    DATA_TYPE_NVLIST_ARRAY
//	Time                DATA_TYPE_HRTIME           []bool     DATA_TYPE_BOOLEAN_ARRAY
//	                                               Uint8s     DATA_TYPE_UINT8_ARRAY
//
// # Invariants
//
//   - A list keeps the order in which its pairs were added, and a name once.
//   - What [Unmarshal] accepts, [Marshal] writes again, and the second reading equals
//     the first.
//   - Hostile input is one error. No length or count in it is believed before it was
//     compared with the bytes that are there; depth and size are bounded ([MaxDepth],
//     [MaxSize]).
//
// # Never
//
// It does not know the XDR encoding, which only disk labels have, and knows nothing
// of ZFS.
//
// Sources: OpenZFS, include/sys/nvpair.h and module/nvpair/nvpair.c. The vectors of
// the tests are the library's own output and what a kernel's /dev/zfs answered.
package nvlist
