package thinpool

import (
	"errors"

	"blockstore.dev/blockstore/thinpool/metadata"
)

// What can go wrong; compare with errors.Is. Errors of package dm (dm.ErrBusy with its holders, dm.ErrNotSupported)
// and errnos stay reachable beside them.
var (
	// ErrNotFound: the pool has no thin device of this number.
	ErrNotFound = metadata.ErrNotFound
	// ErrExists: the pool has a thin device of this number already.
	ErrExists = errors.New("thin device already exists")
	// ErrBusy: the device is open, or active where it must not be.
	ErrBusy = errors.New("thin device is in use")
	// ErrNoSpace: the pool's data or metadata is used up, or a file system below cannot hold what was asked for.
	ErrNoSpace = errors.New("thin pool is out of space")
	// ErrReadOnly: the pool takes no changes: its metadata is full, or a commit failed.
	ErrReadOnly = errors.New("thin pool is read-only")
	// ErrNeedsCheck: a commit failed at some time; the pool stays read-only until its metadata was checked and
	// repaired (thin_check and thin_repair of thin-provisioning-tools, with the pool down).
	ErrNeedsCheck = errors.New("thin pool needs a check of its metadata")
	// ErrFailed: the kernel gave the pool up; take it down and check its metadata.
	ErrFailed = errors.New("thin pool has failed")
	// ErrUnknownOutcome: the kernel accepted a message, but the pool was not healthy afterwards. Whether the message
	// had its effect is known only once the metadata has been read, when the pool is healthy again.
	ErrUnknownOutcome = errors.New("outcome of a thin pool message is unknown")
	// ErrWornOut: the pool has taken nearly as many snapshots as its metadata format can count.
	ErrWornOut = errors.New("thin pool has used up its snapshots: move its data to a new pool")
	// ErrNoTools: thin-provisioning-tools, which check and repair metadata, are not installed.
	ErrNoTools = errors.New("thin-provisioning-tools are missing")
	// ErrNotRepaired: what could be found in damaged metadata is no whole pool. Nothing was changed.
	ErrNotRepaired = errors.New("metadata cannot be repaired")
	// ErrForeign: something of the same name, or a pool of another identity, which is left alone.
	ErrForeign = errors.New("belongs to somebody else")
	// ErrInactive: somebody else's pool, or what is said to be one, has no active device: its owner can activate it.
	ErrInactive = errors.New("thin pool is not active")
	// ErrNotBlank: a device holds data.
	ErrNotBlank = errors.New("device is not blank")
	// ErrNotFormatted: the metadata device of a pool that ought to exist holds no pool: its first block is zero.
	ErrNotFormatted = metadata.ErrNotFormatted
	// ErrCorrupt: the metadata are damaged.
	ErrCorrupt = metadata.ErrCorrupt
	// ErrInvalid: an argument is outside of what a pool can do.
	ErrInvalid = errors.New("invalid")
	// ErrTransaction: the pool's transaction id is not the expected one.
	ErrTransaction = errors.New("unexpected transaction id")
)
