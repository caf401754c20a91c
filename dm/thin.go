package dm

import (
	"fmt"
	"strings"
)

// Limits of a thin pool (dm-thin.c).
const (
	// MinPoolBlock is the smallest data block and the unit of its size: 64 KiB.
	MinPoolBlock Sectors = 128
	// MaxPoolBlock is the largest data block: 1 GiB.
	MaxPoolBlock Sectors = 2 << 20
	// MaxPoolMetadata is the most metadata that a pool uses: 15.875 GiB.
	MaxPoolMetadata Sectors = 33292800
	// maxPoolFeatures is how many features the kernel takes of the five that it has.
	maxPoolFeatures = 4
)

// ThinPool is a pool of blocks for thin devices. Kernel:
// admin-guide/device-mapper/thin-provisioning.rst. Beware: loading a pool whose
// metadata device begins with 4096 zero bytes formats it, unless ReadOnly.
type ThinPool struct {
	Metadata, Data Number
	// BlockSize is fixed for the pool's life: a multiple of [MinPoolBlock] up to
	// [MaxPoolBlock].
	BlockSize Sectors
	// LowWater is the number of free data blocks below which the pool raises an event.
	LowWater Blocks
	// SkipBlockZeroing hands out blocks with whatever they held before.
	SkipBlockZeroing bool
	// IgnoreDiscard makes discards do nothing.
	IgnoreDiscard bool
	// NoDiscardPassdown frees blocks on discard but does not tell the data device.
	NoDiscardPassdown bool
	// ReadOnly refuses changes of the metadata.
	ReadOnly bool
	// ErrorIfNoSpace fails writes that find no block instead of queueing them.
	ErrorIfNoSpace bool
}

// Type is "thin-pool".
func (ThinPool) Type() string { return "thin-pool" }

// Params is "<metadata> <data> <block size> <low water> <features> <feature>...".
func (t ThinPool) Params() string {
	text := fmt.Sprintf("%s %s %d %d", t.Metadata, t.Data, t.BlockSize, t.LowWater)
	if features := t.features(); len(features) > 0 {
		text += fmt.Sprintf(" %d %s", len(features), strings.Join(features, " "))
	}
	return text
}

func (t ThinPool) features() []string {
	var features []string
	for _, f := range []struct {
		on   bool
		word string
	}{
		{t.SkipBlockZeroing, "skip_block_zeroing"},
		{t.IgnoreDiscard, "ignore_discard"},
		{t.NoDiscardPassdown, "no_discard_passdown"},
		{t.ReadOnly, "read_only"},
		{t.ErrorIfNoSpace, "error_if_no_space"},
	} {
		if f.on {
			features = append(features, f.word)
		}
	}
	return features
}

func (t ThinPool) validate() error {
	if t.BlockSize < MinPoolBlock || t.BlockSize > MaxPoolBlock || t.BlockSize%MinPoolBlock != 0 {
		return fmt.Errorf("thin-pool block size is %d sectors, not a multiple of %d up to %d", t.BlockSize, MinPoolBlock, MaxPoolBlock)
	}
	if n := len(t.features()); n > maxPoolFeatures {
		return fmt.Errorf("thin-pool has %d features, at most %d are taken", n, maxPoolFeatures)
	}
	return nil
}

func (w *words) thinPool() ThinPool {
	if w.failed() {
		return ThinPool{}
	}
	t := ThinPool{
		Metadata: w.device("metadata device"), Data: w.device("data device"),
		BlockSize: Sectors(w.number("block size", 64)), LowWater: Blocks(w.number("low water", 64)),
	}
	if !w.more() {
		return t
	}
	count := w.number("feature count", 32)
	if w.err == nil && count != uint64(len(w.rest)) {
		w.fail("feature count", fmt.Sprint(count))
	}
	for w.more() {
		switch word := w.next("feature"); word {
		case "skip_block_zeroing":
			t.SkipBlockZeroing = true
		case "ignore_discard":
			t.IgnoreDiscard = true
		case "no_discard_passdown":
			t.NoDiscardPassdown = true
		case "read_only":
			t.ReadOnly = true
		case "error_if_no_space":
			t.ErrorIfNoSpace = true
		default:
			w.fail("feature", word)
		}
	}
	return t
}

// Thin is a thin device of a pool. Its size is the table row's length: the pool does not
// know it.
type Thin struct {
	Pool Number
	ID   DeviceID
	// Origin, if not zero, is a read-only device outside the pool that serves reads
	// of unmapped blocks. Snapshots of this device must name it too.
	Origin Number
}

// Type is "thin".
func (Thin) Type() string { return "thin" }

// Params is "<pool> <id> [<external origin>]".
func (t Thin) Params() string {
	text := fmt.Sprintf("%s %d", t.Pool, t.ID)
	if !t.Origin.IsZero() {
		text += " " + t.Origin.String()
	}
	return text
}

func (t Thin) validate() error {
	if t.ID > MaxDeviceID {
		return fmt.Errorf("thin device id %d is above %d", t.ID, MaxDeviceID)
	}
	return nil
}

func (w *words) thin() Thin {
	if w.failed() {
		return Thin{}
	}
	t := Thin{Pool: w.device("pool"), ID: DeviceID(w.number("id", 24))}
	if w.more() {
		t.Origin = w.device("external origin")
	}
	return t
}

// failed says whether the target prints its failure instead of its table.
func (w *words) failed() bool {
	if len(w.rest) != 1 {
		return false
	}
	switch word := w.rest[0]; word {
	case "Fail", "Error", "-":
		w.err = fmt.Errorf("%s: %w: table reads %q", w.what, ErrFailed, word)
		return true
	}
	return false
}

// Messages of a thin pool, for [Client.Message] with sector 0. None has a reply: dm-thin.c, pool_message.
const (
	createThin       = "create_thin"
	createSnap       = "create_snap"
	deleteThin       = "delete"
	setTransactionID = "set_transaction_id"
)

// CreateThinMessage makes an empty thin device (EEXIST if the id is taken).
func CreateThinMessage(id DeviceID) string { return fmt.Sprintf(createThin+" %d", id) }

// CreateSnapMessage makes a snapshot (EEXIST; ENODATA without the origin). The origin must be
// inactive or suspended; the kernel does not check.
func CreateSnapMessage(id, origin DeviceID) string {
	return fmt.Sprintf(createSnap+" %d %d", id, origin)
}

// DeleteMessage deletes a thin device (EBUSY while active, ENODATA if missing).
func DeleteMessage(id DeviceID) string { return fmt.Sprintf(deleteThin+" %d", id) }

// SetTransactionIDMessage changes the pool's transaction id if it is current (EINVAL if not).
func SetTransactionIDMessage(current, next TransactionID) string {
	return fmt.Sprintf(setTransactionID+" %d %d", current, next)
}

// ReserveMetadataSnapMessage holds the metadata's root for readers (EBUSY if held already).
const ReserveMetadataSnapMessage = "reserve_metadata_snap"

// ReleaseMetadataSnapMessage lets the held root go (EINVAL if none is held).
const ReleaseMetadataSnapMessage = "release_metadata_snap"
