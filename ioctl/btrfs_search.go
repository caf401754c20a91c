package ioctl

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BtrfsSearchItem is one item that a tree search found. Data is the item as it
// lies on disk and aliases the search's buffer.
type BtrfsSearchItem struct {
	BtrfsSearchHeader
	Data []byte
}

// BtrfsTreeSearch makes one TREE_SEARCH_V2 call with a buffer of size bytes and
// returns the items found, in the order of their keys. None means that the range
// holds no more. An item larger than the buffer is EOVERFLOW, and key.NrItems is
// meaningless then; needed is the size that would do.
func BtrfsTreeSearch(fd int, key *BtrfsSearchKey, buffer []uint64) (items []BtrfsSearchItem, needed uint64, err error) {
	const header = int(unsafe.Sizeof(BtrfsSearchArgsV2{})) / 8
	if len(buffer) <= header {
		return nil, 0, unix.EINVAL
	}
	args := (*BtrfsSearchArgsV2)(unsafe.Pointer(&buffer[0]))
	args.Key = *key
	args.BufSize = uint64(len(buffer)-header) * 8
	if err := btrfsCall(fd, btrfsTreeSearchV2(), unsafe.Pointer(&buffer[0])); err != nil {
		return nil, args.BufSize, err
	}
	key.NrItems = args.Key.NrItems
	data := unsafe.Slice((*byte)(unsafe.Pointer(&buffer[header])), (len(buffer)-header)*8)
	items, err = ParseBtrfsSearchItems(data, args.Key.NrItems)
	return items, 0, err
}

// ParseBtrfsSearchItems splits a tree search's result buffer into count items.
// It refuses a buffer that ends before they do.
func ParseBtrfsSearchItems(data []byte, count uint32) ([]BtrfsSearchItem, error) {
	const size = int(unsafe.Sizeof(BtrfsSearchHeader{}))
	items := make([]BtrfsSearchItem, 0, min(int(count), len(data)/size))
	for i := range count {
		if len(data) < size {
			return nil, fmt.Errorf("btrfs tree search: header %d of %d: %d bytes left of %d", i, count, len(data), size)
		}
		item := BtrfsSearchItem{BtrfsSearchHeader: BtrfsSearchHeader{
			Transid:  binary.NativeEndian.Uint64(data),
			Objectid: binary.NativeEndian.Uint64(data[8:]),
			Offset:   binary.NativeEndian.Uint64(data[16:]),
			Type:     binary.NativeEndian.Uint32(data[24:]),
			Len:      binary.NativeEndian.Uint32(data[28:]),
		}}
		data = data[size:]
		if uint64(item.Len) > uint64(len(data)) {
			return nil, fmt.Errorf("btrfs tree search: item %d of %d: length %d, %d bytes left", i, count, item.Len, len(data))
		}
		item.Data, data = data[:item.Len:item.Len], data[item.Len:]
		items = append(items, item)
	}
	return items, nil
}
