package dm

import (
	"fmt"
	"strings"
)

// PoolMode is what a thin pool still does.
type PoolMode int

// The modes of a thin pool, best first (dm-thin.c's pool_status).
const (
	// PoolReadWrite works.
	PoolReadWrite PoolMode = iota
	// PoolOutOfDataSpace serves mapped blocks and messages; new blocks wait or fail.
	PoolOutOfDataSpace
	// PoolReadOnly serves mapped blocks; messages are refused with EOPNOTSUPP. It was asked
	// for, or metadata ran out, or a commit failed (then NeedsCheck is set).
	PoolReadOnly
	// PoolFail serves nothing.
	PoolFail
	// PoolError could not be asked: its metadata did not answer.
	PoolError
)

var poolModes = []string{"rw", "out_of_data_space", "ro", "Fail", "Error"}

func (m PoolMode) String() string { return nameOf(poolModes, m) }

// DiscardMode is what a thin pool does with discards.
type DiscardMode int

// The ways to treat discards.
const (
	// DiscardPassdown frees the blocks and discards them on the data device.
	DiscardPassdown DiscardMode = iota
	// NoDiscardPassdown frees the blocks only.
	NoDiscardPassdown
	// IgnoreDiscard does nothing.
	IgnoreDiscard
)

var discardModes = []string{"discard_passdown", "no_discard_passdown", "ignore_discard"}

func (m DiscardMode) String() string { return nameOf(discardModes, m) }

// FullPolicy is what a thin pool without free blocks does with writes that need one.
type FullPolicy int

// The policies of a full pool.
const (
	// QueueIfNoSpace lets them wait, for at most the module's no_space_timeout.
	QueueIfNoSpace FullPolicy = iota
	// ErrorIfNoSpace fails them.
	ErrorIfNoSpace
)

var fullPolicies = []string{"queue_if_no_space", "error_if_no_space"}

func (p FullPolicy) String() string { return nameOf(fullPolicies, p) }

// ThinPoolStatus is a thin pool's status. It shows what is in effect: compare it with the
// table's features to see what the pool has changed by itself.
type ThinPoolStatus struct {
	// Mode; in PoolFail and PoolError all other fields are zero.
	Mode          PoolMode
	TransactionID TransactionID
	// MetadataUsed counts the kernel's reserve too.
	MetadataUsed, MetadataTotal MetadataBlocks
	DataUsed, DataTotal         Blocks
	// HeldRoot is the block of the held metadata snapshot, 0 for none.
	HeldRoot MetadataBlocks
	Discard  DiscardMode
	Full     FullPolicy
	// NeedsCheck: the metadata must be checked offline before the pool can be written.
	NeedsCheck bool
	// MetadataLowWater is the number of free metadata blocks below which the pool raises
	// an event; nil on kernels before 4.19, which do not print it.
	MetadataLowWater *MetadataBlocks
}

// Healthy says whether messages take effect: mode rw or out_of_data_space and no check needed.
func (s ThinPoolStatus) Healthy() bool {
	return (s.Mode == PoolReadWrite || s.Mode == PoolOutOfDataSpace) && !s.NeedsCheck
}

// ParseThinPoolStatus reads the status line's parameters of a thin pool. An unknown word is
// [ErrSyntax] and names the field.
func ParseThinPoolStatus(params string) (ThinPoolStatus, error) {
	w := newWords("thin-pool status", params)
	for _, mode := range []PoolMode{PoolFail, PoolError} {
		if len(w.rest) == 1 && w.rest[0] == mode.String() {
			return ThinPoolStatus{Mode: mode}, nil
		}
	}
	var s ThinPoolStatus
	s.TransactionID = TransactionID(w.number("transaction id", 64))
	used, total := w.ratio("metadata blocks")
	s.MetadataUsed, s.MetadataTotal = MetadataBlocks(used), MetadataBlocks(total)
	used, total = w.ratio("data blocks")
	s.DataUsed, s.DataTotal = Blocks(used), Blocks(total)
	s.HeldRoot = w.heldRoot()
	s.Mode = oneOf[PoolMode](w, "mode", poolModes[:PoolFail])
	s.Discard = oneOf[DiscardMode](w, "discard mode", discardModes)
	s.Full = oneOf[FullPolicy](w, "full policy", fullPolicies)
	s.NeedsCheck = oneOf[int](w, "check", []string{"-", "needs_check"}) == 1
	if w.more() {
		low := MetadataBlocks(w.number("metadata low water", 64))
		s.MetadataLowWater = &low
	}
	if err := w.end(); err != nil {
		return ThinPoolStatus{}, err
	}
	return s, nil
}

// heldRoot reads "-" or a block, which is never 0: that is the superblock.
func (w *words) heldRoot() MetadataBlocks {
	if w.more() && w.rest[0] == "-" {
		w.next("held root")
		return 0
	}
	block := w.number("held root", 64)
	if block == 0 {
		w.fail("held root", "0")
	}
	return MetadataBlocks(block)
}

// String is the status in the kernel's words, the inverse of [ParseThinPoolStatus].
func (s ThinPoolStatus) String() string {
	if s.Mode == PoolFail || s.Mode == PoolError {
		return s.Mode.String()
	}
	held, check := "-", "-"
	if s.HeldRoot != 0 {
		held = fmt.Sprint(s.HeldRoot)
	}
	if s.NeedsCheck {
		check = "needs_check"
	}
	text := fmt.Sprintf("%d %d/%d %d/%d %s %s %s %s %s", s.TransactionID, s.MetadataUsed, s.MetadataTotal,
		s.DataUsed, s.DataTotal, held, s.Mode, s.Discard, s.Full, check)
	if s.MetadataLowWater != nil {
		text += fmt.Sprintf(" %d", *s.MetadataLowWater)
	}
	return text
}

// ThinState is whether a thin device works.
type ThinState int

// The states of a thin device.
const (
	// ThinOK works.
	ThinOK ThinState = iota
	// ThinFail belongs to a failed pool.
	ThinFail
	// ThinError could not be asked.
	ThinError
	// ThinClosed has no metadata: its table has never been resumed.
	ThinClosed
)

var thinStates = []string{"", "Fail", "Error", "-"}

func (s ThinState) String() string { return nameOf(thinStates, s) }

// ThinStatus is a thin device's status.
type ThinStatus struct {
	// State; unless ThinOK the other fields are zero.
	State ThinState
	// Mapped is the space that the device's blocks cover, shared ones included.
	Mapped Sectors
	// Highest is the last mapped sector, nil if nothing is mapped.
	Highest *Sectors
}

// ParseThinStatus reads the status line's parameters of a thin device. An unknown word is
// [ErrSyntax] and names the field.
func ParseThinStatus(params string) (ThinStatus, error) {
	w := newWords("thin status", params)
	for _, state := range []ThinState{ThinFail, ThinError, ThinClosed} {
		if len(w.rest) == 1 && w.rest[0] == state.String() {
			return ThinStatus{State: state}, nil
		}
	}
	s := ThinStatus{Mapped: Sectors(w.number("mapped sectors", 64))}
	if w.more() && w.rest[0] == "-" {
		w.next("highest sector")
	} else {
		highest := Sectors(w.number("highest sector", 64))
		s.Highest = &highest
	}
	if err := w.end(); err != nil {
		return ThinStatus{}, err
	}
	return s, nil
}

// String is the status in the kernel's words, the inverse of [ParseThinStatus].
func (s ThinStatus) String() string {
	if s.State != ThinOK {
		return s.State.String()
	}
	if s.Highest == nil {
		return fmt.Sprintf("%d -", s.Mapped)
	}
	return fmt.Sprintf("%d %d", s.Mapped, *s.Highest)
}

// LogWritesStatus is a log-writes device's status.
type LogWritesStatus struct {
	// Entries is the number of entries in the log.
	Entries uint64
	// Highest is the last sector of the log that is written.
	Highest Sectors
	// Disabled: the log is full or could not be written, nothing is recorded any more.
	Disabled bool
}

// ParseLogWritesStatus reads the status line's parameters of a log-writes device.
func ParseLogWritesStatus(params string) (LogWritesStatus, error) {
	w := newWords("log-writes status", params)
	s := LogWritesStatus{Entries: w.number("entries", 64), Highest: Sectors(w.number("highest sector", 64))}
	if w.more() {
		oneOf[int](w, "state", []string{"logging_disabled"})
		s.Disabled = true
	}
	if err := w.end(); err != nil {
		return LogWritesStatus{}, err
	}
	return s, nil
}

// String is the status in the kernel's words, the inverse of [ParseLogWritesStatus].
func (s LogWritesStatus) String() string {
	return strings.TrimRight(fmt.Sprintf("%d %d %s", s.Entries, s.Highest, map[bool]string{true: "logging_disabled"}[s.Disabled]), " ")
}

// nameOf is a value's word, or its number when it has none.
func nameOf[T ~int](names []string, value T) string {
	if int(value) < 0 || int(value) >= len(names) {
		return fmt.Sprintf("%d", int(value))
	}
	return names[value]
}
