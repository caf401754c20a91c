package thin

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sort"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// The superblock and the log of xfs, big-endian (XFS Algorithms & Data Structures, "Superblocks" and "Journaling Log").
const (
	xfsBlockSize, xfsLogStart, xfsAGBlocks, xfsLogBlocks = 4, 48, 84, 96 // offsets in the superblock
	xfsAGBlockLog                                        = 124

	// The log is made of sectors, each of which begins with the number of the cycle in which it was written; a
	// record's first one with a magic number, and then the cycle.
	logSector       = 512
	logRecordMagic  = 0xfeedbabe
	logOperations   = 40  // in a record's header: how many operations are in it
	logRecordBuffer = 320 // and of which size the buffer was that it was written from, a header's sector for each 32 KiB
	logOneHeader    = 32 << 10
	logMostRecord   = 256<<10/logSector + 8 // sectors
	logUnmount      = 0x20                  // of an operation's flags, at 9

	directBuffer = 64 << 10 // allocations of that size begin at a page
)

// xfsLog is the log of an xfs that is not mounted.
type xfsLog struct {
	r      io.ReaderAt
	at     int64
	length int // sectors

	page       []byte // that was read last
	pageAt     int64
	firstError error
}

// xfsClean says whether the last record of an xfs' log is that of an unmounting, behind which there is nothing to
// replay. A log whose unmounting did not reach the disk ends with another one. It reads past the page cache, through
// which xfs does not write, and which keeps what somebody else has read while xfs was mounted.
func xfsClean(device string) (bool, error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	l, err := openXFSLog(f)
	if err != nil {
		return false, err
	}
	clean := l.unmounted()
	if l.firstError != nil {
		return false, fmt.Errorf("reading the log of xfs: %w", l.firstError)
	}
	return clean, nil
}

func openXFSLog(r io.ReaderAt) (*xfsLog, error) {
	l := &xfsLog{r: r, length: 1, page: make([]byte, directBuffer)[:fsBlock], pageAt: -1}
	sb := l.read(0)
	if l.firstError != nil {
		return nil, fmt.Errorf("reading xfs superblock: %w", l.firstError)
	}
	be := binary.BigEndian
	start, group, perGroup := be.Uint64(sb[xfsLogStart:]), sb[xfsAGBlockLog], be.Uint32(sb[xfsAGBlocks:])
	blocks, size := be.Uint32(sb[xfsLogBlocks:]), be.Uint32(sb[xfsBlockSize:])
	if !bytes.HasPrefix(sb, []byte("XFSB")) || start == 0 || blocks == 0 || size < logSector || group > 32 {
		return nil, fmt.Errorf("volume holds no xfs with a log of its own: %w", snapshot.ErrCorrupt)
	}
	block := start>>group*uint64(perGroup) + start&(1<<group-1)
	l.at, l.length = int64(block)*int64(size), int(uint64(blocks)*uint64(size)/logSector)
	return l, nil
}

// read gives a sector, which counts from behind the end when it is negative. After an error all are zeroes.
func (l *xfsLog) read(i int) []byte {
	at := l.at + int64((i+l.length)%l.length)*logSector
	if page := at &^ (fsBlock - 1); page != l.pageAt && l.firstError == nil {
		_, l.firstError = l.r.ReadAt(l.page, page)
		l.pageAt = page
	}
	if l.firstError != nil {
		clear(l.page)
	}
	return l.page[at&(fsBlock-1):][:logSector]
}

func isRecord(sector []byte) bool { return binary.BigEndian.Uint32(sector) == logRecordMagic }

func (l *xfsLog) cycle(i int) uint32 {
	sector := l.read(i)
	if isRecord(sector) {
		sector = sector[4:]
	}
	return binary.BigEndian.Uint32(sector)
}

// head is the sector behind the newest record: from there on there is what the cycle before has written, or nothing.
// Everything before it has been written, since unmounting waits for that.
func (l *xfsLog) head() int {
	oldest := l.cycle(-1)
	if l.cycle(0) == oldest { // the cycle is complete
		return 0
	}
	return sort.Search(l.length-1, func(i int) bool { return l.cycle(i) == oldest })
}

func (l *xfsLog) unmounted() bool {
	head := l.head()
	for back := 1; back <= min(logMostRecord, l.length); back++ {
		header := l.read(head - back)
		if !isRecord(header) {
			continue
		}
		operations := binary.BigEndian.Uint32(header[logOperations:])
		headers := max(1, (int(binary.BigEndian.Uint32(header[logRecordBuffer:]))+logOneHeader-1)/logOneHeader)
		return operations == 1 && headers < back && l.read(head - back + headers)[9]&logUnmount != 0
	}
	return false
}
