package zfsds

import "strings"

// Bytes is a size in bytes.
type Bytes uint64

// Type is what a dataset is.
type Type string

// Types, in zfs(8)'s words.
const (
	Filesystem Type = "filesystem"
	Volume     Type = "volume"
	Snapshot   Type = "snapshot"
)

// Dataset says what a dataset is. It is cheap to read: no properties are.
type Dataset struct {
	Name string
	Type Type
	// GUID stays when the dataset is renamed, and comes along when it is sent.
	GUID uint64
	// Created is the transaction group of its creation.
	Created uint64
	// Origin is the snapshot that a clone was made of, "" for others.
	Origin string
	// Clones is how many datasets have this snapshot as their origin.
	Clones int
}

// Parent is the name of the dataset that d lies in, or that it is a snapshot of; "" for a
// pool's root.
func (d Dataset) Parent() string {
	if i := strings.LastIndexAny(d.Name, "/@"); i >= 0 {
		return d.Name[:i]
	}
	return ""
}

// Details are a dataset with its properties.
type Details struct {
	Dataset
	Usage
	Limits
	// Encrypted datasets whose KeyLoaded is false can be neither mounted nor cloned.
	Encrypted, KeyLoaded bool
	// User are the user properties that are set on the dataset or inherited.
	User map[string]UserProperty
}

// UserProperty is a value and the dataset that it was set on.
type UserProperty struct {
	Value  string
	Source string
}

// Usage is what a dataset occupies, zfsprops(7).
type Usage struct {
	// Used is what it and everything below it occupy, and would free; a snapshot's is what
	// only it refers to.
	Used Bytes
	// Available is what it may still take.
	Available Bytes
	// Referenced is what it refers to, shared with others or not, LogicalReferenced the same
	// before compression.
	Referenced, LogicalReferenced Bytes
	// Written is what was written since its latest snapshot, or since its origin. A snapshot's
	// is since the one before.
	Written Bytes
	// UsedByDataset and UsedBySnapshots are parts of Used.
	UsedByDataset, UsedBySnapshots Bytes
}

// Limits are the sizes that a dataset is held to; 0 is none.
type Limits struct {
	// Quota limits Used, RefQuota Referenced.
	Quota, RefQuota Bytes
	// Reservation and RefReservation keep room for it.
	Reservation, RefReservation Bytes
}
