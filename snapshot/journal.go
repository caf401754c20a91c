package snapshot

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// journalFile lies beside the catalog.
const journalFile = "catalog.journal"

// The journal's layout: two heads, of which the whole one with the higher generation
// counts, and then records. All begin at a multiple of journalBlock, so that what is
// durable is never written over to append to it.
const (
	journalBlock   = 4096
	journalRecords = 2 * journalBlock
	journalSize    = 1 << 20
)

var journalMagic = [8]byte{'b', 's', 't', 'o', 'r', 'j', 'n', 'l'}

// metaBytes are the beginning of a page in which bbolt keeps where everything else is.
const metaBytes = 512

// base is the state of the catalog's file to which the records of a journal are added:
// how the two pages begin that lead to all others.
type base struct {
	Tx       uint64 // bbolt's number of the state
	PageSize uint32
	Metas    [2][metaBytes]byte
}

// journalHead begins a generation of records, which the head before it knows nothing of.
type journalHead struct {
	Magic      [8]byte
	Generation uint64
	Nonce      uint64 // in the generation's records: nobody who chooses names can make up one
	Base       base
}

// recordHead precedes what a record holds.
type recordHead struct {
	Nonce, Number uint64
	Length, Sum   uint32 // Sum is of the head, with 0 there, and of what follows it
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errJournalFull says that a record has no room until the next generation.
var errJournalFull = errors.New("the journal is full")

// journal is the file that makes a commit of the catalog durable by one wait for the
// disk. It has one user at a time.
type journal struct {
	file    *os.File
	head    journalHead
	records uint64 // in this generation
	end     int64  // where the next one goes
	// owed is the end of the records that nobody has waited for: they are written again with
	// the next, since the kernel forgets what it could not write.
	owed []byte
	// stale says that something lies at end which was not acknowledged.
	stale bool
}

// openJournal opens the file at path and returns what its records hold. There is none, and
// j is nil, without a file or with one whose making was cut short: see makeJournal.
func openJournal(path string) (j *journal, records [][]byte, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, ignoreMissing(err)
	}
	defer func() {
		if j == nil {
			err = errors.Join(err, f.Close())
		}
	}()
	all := make([]byte, journalSize)
	n, err := f.ReadAt(all, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	all = all[:n]
	found := &journal{file: f}
	for slot := range 2 {
		if h, ok := parseHead(all, slot); ok && h.Generation > found.head.Generation {
			found.head = h
		}
	}
	if found.head.Generation == 0 {
		return nil, nil, nil
	}
	found.end = journalRecords
	for {
		payload, ok := parseRecord(all, found.end, found.head.Nonce, found.records)
		if !ok {
			break
		}
		records = append(records, payload)
		found.records++
		found.end += recordSize(payload)
	}
	// What a process wrote that was killed before it was told so is acted on from here on.
	if err := found.flush(); err != nil {
		return nil, nil, err
	}
	return found, records, nil
}

// makeJournal makes the file at path, and writes all of it, so that records need no room
// and change no size. It has no generation yet.
func makeJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(make([]byte, journalSize), 0); err == nil {
		err = errors.Join(f.Sync(), syncDir(filepath.Dir(path)))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &journal{file: f}, nil
}

// begin makes b the state to which records are added from now on. It must be durable.
func (j *journal) begin(b base) error {
	h := journalHead{Magic: journalMagic, Generation: j.head.Generation + 1, Base: b}
	nonce := make([]byte, 8)
	_, _ = rand.Read(nonce) // never fails
	h.Nonce = binary.BigEndian.Uint64(nonce)
	block := make([]byte, journalBlock)
	n, err := binary.Encode(block, binary.BigEndian, h)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(block[n:], crc32.Checksum(block[:n], castagnoli))
	if err := j.write(block, int64(h.Generation%2)*journalBlock); err != nil {
		j.end = journalSize // it may count all the same: then nothing is to be added to the generation before
		return err
	}
	j.head, j.records, j.end, j.owed, j.stale = h, 0, journalRecords, nil, false
	return nil
}

func parseHead(all []byte, slot int) (h journalHead, ok bool) {
	if len(all) < journalRecords {
		return h, false
	}
	block := all[slot*journalBlock:][:journalBlock]
	n, err := binary.Decode(block, binary.BigEndian, &h)
	return h, err == nil && h.Magic == journalMagic && binary.BigEndian.Uint32(block[n:]) == crc32.Checksum(block[:n], castagnoli)
}

// recordSize is what a record takes in the file.
func recordSize(payload []byte) int64 {
	n := int64(binary.Size(recordHead{}) + len(payload))
	return (n + journalBlock - 1) / journalBlock * journalBlock
}

// fits says whether a record has room in any generation.
func fits(payload []byte) bool { return recordSize(payload) <= journalSize-journalRecords }

// append adds a record. It is durable then, with those before it, or it is when a later one is,
// if lazy. After an error it may be there all the same, see void.
func (j *journal) append(payload []byte, lazy bool) error {
	size := recordSize(payload)
	if j.end+size > journalSize {
		return errJournalFull
	}
	h := recordHead{Nonce: j.head.Nonce, Number: j.records, Length: uint32(len(payload))}
	block := make([]byte, size)
	copy(block[binary.Size(h):], payload)
	if err := h.sum(block); err != nil {
		return err
	}
	if _, err := binary.Encode(block, binary.BigEndian, h); err != nil {
		return err
	}
	j.stale = true
	if lazy {
		if _, err := j.file.WriteAt(block, j.end); err != nil {
			return err
		}
		j.owed = append(j.owed, block...)
	} else if err := j.writeEnd(block); err != nil {
		return err
	}
	j.stale = false
	j.records++
	j.end += size
	return nil
}

// sum computes Sum over a record whose head is still to be written.
func (h *recordHead) sum(block []byte) error {
	h.Sum = 0
	n, err := binary.Encode(block, binary.BigEndian, *h)
	h.Sum = crc32.Checksum(block[:n+int(h.Length)], castagnoli)
	return err
}

func parseRecord(all []byte, at int64, nonce, number uint64) (payload []byte, ok bool) {
	if at+journalBlock > int64(len(all)) {
		return nil, false
	}
	var h recordHead
	n, err := binary.Decode(all[at:], binary.BigEndian, &h)
	if err != nil || h.Nonce != nonce || h.Number != number || int64(h.Length) > int64(len(all))-at-int64(n) {
		return nil, false
	}
	want, block := h.Sum, bytes.Clone(all[at:at+int64(n)+int64(h.Length)])
	if h.sum(block) != nil || h.Sum != want {
		return nil, false
	}
	return block[n:], true
}

// writeEnd makes a block at the end durable, and what is owed before it.
func (j *journal) writeEnd(block []byte) error {
	owed := int64(len(j.owed))
	if err := j.write(append(j.owed, block...), j.end-owed); err != nil {
		return err
	}
	j.owed = nil
	return nil
}

// drop takes the record of that payload out again, which was appended last.
func (j *journal) drop(payload []byte) error {
	size := recordSize(payload)
	j.records--
	j.end -= size
	if owed := int64(len(j.owed)); owed > 0 {
		j.owed = j.owed[:owed-size]
	}
	j.stale = true
	return j.void()
}

// void makes sure that a record which was not acknowledged is not found by the next open.
func (j *journal) void() error {
	if !j.stale {
		return nil
	}
	if err := j.writeEnd(make([]byte, journalBlock)); err != nil {
		return fmt.Errorf("taking back what was not committed: %w", err)
	}
	j.stale = false
	return nil
}

func (j *journal) write(block []byte, at int64) error {
	if _, err := j.file.WriteAt(block, at); err != nil {
		return err
	}
	return j.flush()
}

// flush waits until the disk has what was written.
func (j *journal) flush() error {
	if failpoint.Leave("catalog.flush") {
		return nil
	}
	for {
		if err := unix.Fdatasync(int(j.file.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (j *journal) close() error { return j.file.Close() }
