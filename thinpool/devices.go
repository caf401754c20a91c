package thinpool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
)

// DeviceDetails is what the metadata say of a thin device, active or not.
type DeviceDetails struct {
	ID dm.DeviceID
	// Mapped is the number of blocks that it maps, shared ones included.
	Mapped dm.Blocks
	// TransactionID was the pool's when the device was made.
	TransactionID dm.TransactionID
	// Created and Snapshotted are values of Superblock.Time.
	Created, Snapshotted uint32
}

// The details tree: Linux, persistent-data/dm-btree-internal.h (struct node_header) and dm-thin-metadata.c (struct
// disk_device_details); little-endian.
const (
	nodeCsumXor        = 121107
	nodeHeader         = 32
	nodeInternal       = 1
	nodeLeaf           = 2
	detailsSize        = 24
	maxTreeDepth       = 10 // a tree of 2^24 devices has four levels
	listTries          = 16
	offNodeFlags       = 4
	offNodeBlocknr     = 8
	offNodeEntries     = 16
	offNodeMaxEntries  = 20
	offNodeValueSize   = 24
	childPointerSize   = 8
	maxEntriesMultiple = 3
)

// errMoved says that the pool's metadata changed while they were read.
var errMoved = errors.New("metadata changed while being read")

// Devices lists all thin devices of the pool in order of their numbers, from its metadata as of a commit that it
// makes. It reads them beside the running kernel and begins again when they changed meanwhile.
func (p *Pool) Devices(ctx context.Context) ([]DeviceDetails, error) {
	if _, err := p.Commit(ctx); err != nil && !errors.Is(err, ErrReadOnly) {
		return nil, err
	}
	backing, err := p.config.open(ctx)
	if err != nil {
		return nil, err
	}
	defer backing.close()
	f, err := os.OpenFile(backing.metadata.path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reading metadata of pool %s: %w", p.config.Name, err)
	}
	defer f.Close()
	for range listTries {
		all, err := readDevices(f)
		switch {
		case err == nil:
			return all, nil
		case !errors.Is(err, errMoved):
			return nil, fmt.Errorf("reading metadata of pool %s: %w", p.config.Name, err)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, fmt.Errorf("reading metadata of pool %s: %w: %w", p.config.Name, ErrBusy, errMoved)
}

// readDevices reads the superblock, the tree and the superblock again. A block that the kernel freed and wrote anew
// meanwhile would be no part of the tree any more, and the superblock another: it names the roots, and each commit
// moves them.
func readDevices(f *os.File) ([]DeviceDetails, error) {
	before, err := readBlock0(f)
	if err != nil {
		return nil, err
	}
	sb, err := ParseSuperblock(before)
	if err != nil {
		return nil, err
	}
	w := &detailsWalk{f: f, limit: sb.MetadataBlocks}
	walkErr := w.walk(sb.DetailsRoot, 0)
	if err := ioctl.BlockFlushBuffers(f); err != nil {
		return nil, err
	}
	after, err := readBlock0(f)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(before, after) {
		return nil, errMoved
	}
	return w.found, walkErr
}

type detailsWalk struct {
	f     *os.File
	limit dm.MetadataBlocks
	found []DeviceDetails
}

func (w *detailsWalk) walk(block dm.MetadataBlocks, depth int) error {
	n, err := w.node(block)
	if err != nil {
		return err
	}
	if depth > maxTreeDepth {
		return fmt.Errorf("%w: details tree is deeper than %d", ErrCorrupt, maxTreeDepth)
	}
	for i := range n.entries {
		if n.leaf {
			if err := w.add(n.key(i), n.value(i)); err != nil {
				return err
			}
			continue
		}
		if err := w.walk(dm.MetadataBlocks(binary.LittleEndian.Uint64(n.value(i))), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *detailsWalk) add(key uint64, v []byte) error {
	if key > uint64(dm.MaxDeviceID) || len(w.found) > 0 && uint64(w.found[len(w.found)-1].ID) >= key {
		return fmt.Errorf("%w: details tree has device %d out of order", ErrCorrupt, key)
	}
	le := binary.LittleEndian
	w.found = append(w.found, DeviceDetails{
		ID: dm.DeviceID(key), Mapped: dm.Blocks(le.Uint64(v)), TransactionID: dm.TransactionID(le.Uint64(v[8:])),
		Created: le.Uint32(v[16:]), Snapshotted: le.Uint32(v[20:]),
	})
	return nil
}

// A node is one checked block of the tree.
type node struct {
	block            []byte
	leaf             bool
	entries, maximum int
	size             int
}

func (n node) key(i int) uint64 { return binary.LittleEndian.Uint64(n.block[nodeHeader+8*i:]) }

func (n node) value(i int) []byte {
	at := nodeHeader + 8*n.maximum + n.size*i
	return n.block[at : at+n.size]
}

func (w *detailsWalk) node(block dm.MetadataBlocks) (node, error) {
	bad := func(what string) (node, error) {
		return node{}, fmt.Errorf("%w: details tree node %d: %s", ErrCorrupt, block, what)
	}
	if block == 0 || block >= w.limit {
		return bad("no such block")
	}
	b := make([]byte, dm.MetadataBlockSize)
	if _, err := w.f.ReadAt(b, int64(block)*dm.MetadataBlockSize); err != nil {
		return node{}, fmt.Errorf("reading metadata block %d: %w", block, err)
	}
	le := binary.LittleEndian
	sum := ^crc32.Checksum(b[offNodeFlags:], crc32.MakeTable(crc32.Castagnoli)) ^ nodeCsumXor
	if le.Uint32(b) != sum || le.Uint64(b[offNodeBlocknr:]) != uint64(block) {
		return bad("wrong checksum or place")
	}
	n := node{
		block: b, entries: int(le.Uint32(b[offNodeEntries:])), maximum: int(le.Uint32(b[offNodeMaxEntries:])),
		size: int(le.Uint32(b[offNodeValueSize:])),
	}
	switch flags := le.Uint32(b[offNodeFlags:]); {
	case flags&nodeLeaf != 0 && n.size == detailsSize:
		n.leaf = true
	case flags&nodeInternal == 0 || n.size != childPointerSize:
		return bad("not a node of this tree")
	}
	if n.entries > n.maximum || nodeHeader+n.maximum*(8+n.size) > dm.MetadataBlockSize || n.maximum%maxEntriesMultiple != 0 {
		return bad("more entries than fit")
	}
	return n, nil
}
