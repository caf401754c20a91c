package metadata_test

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// An image is metadata under construction, written independently of the reader's code. A builder's trees are
// persistent, as the kernel's are: replace copies a path and shares the rest.
type image struct {
	blocks     [][]byte // nil: free
	data       uint64
	time       uint32
	devices    []device
	held       heldRoot
	dataCounts map[uint64]uint32
	counts     map[uint64]uint32 // of metadata blocks
	wrong      func(*image)      // spoils the counts before they are written
}

type device struct {
	id, root, mapped uint64
	created, snapped uint32
}

// heldRoot is a metadata snapshot: a copy of the superblock and what it names.
type heldRoot struct{ block, mapping, details uint64 }

type entry struct {
	key   uint64
	value []byte
}

const (
	superCsum, nodeCsum, bitmapCsum, indexCsum = 160774, 121107, 240779, 160478

	imageBlock = 4096
	perBitmap  = 16320
)

var le = binary.LittleEndian

func newImage(metadata, data int) *image {
	return &image{blocks: make([][]byte, 1, metadata), data: uint64(data)}
}

func (m *image) alloc() uint64 {
	m.blocks = append(m.blocks, make([]byte, imageBlock))
	return uint64(len(m.blocks) - 1)
}

func sum(b []byte, kind uint32) {
	le.PutUint32(b, ^crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli))^kind)
}

func (m *image) seal(at uint64, kind uint32) {
	le.PutUint64(m.blocks[at][8:], at)
	sum(m.blocks[at], kind)
}

func room(valueSize int) int { return (imageBlock - 32) / (8 + valueSize) / 3 * 3 }

// node writes one node.
func (m *image) node(leaf bool, valueSize int, entries []entry) uint64 {
	at := m.alloc()
	m.fill(at, leaf, valueSize, entries)
	return at
}

func (m *image) fill(at uint64, leaf bool, valueSize int, entries []entry) {
	b, n := m.blocks[at], room(valueSize)
	clear(b)
	flags := uint32(1)
	if leaf {
		flags = 2
	}
	le.PutUint32(b[4:], flags)
	le.PutUint32(b[16:], uint32(len(entries)))
	le.PutUint32(b[20:], uint32(n))
	le.PutUint32(b[24:], uint32(valueSize))
	for i, e := range entries {
		le.PutUint64(b[32+8*i:], e.key)
		copy(b[32+8*n+valueSize*i:], e.value)
	}
	m.seal(at, nodeCsum)
}

func u64(n uint64) []byte { return le.AppendUint64(nil, n) }

// tree writes a tree of sorted entries, with perNode entries in a node at most.
func (m *image) tree(valueSize, perNode int, entries []entry) uint64 {
	leaf, size := true, valueSize
	for {
		n := min(perNode, room(size))
		if len(entries) <= n {
			return m.node(leaf, size, entries)
		}
		var above []entry
		nodes := (len(entries) + n - 1) / n
		for i := range nodes { // evenly, so that none is less than half full
			chunk := entries[i*len(entries)/nodes : (i+1)*len(entries)/nodes]
			above = append(above, entry{chunk[0].key, u64(m.node(leaf, size, chunk))})
		}
		entries, leaf, size = above, false, 8
	}
}

func (m *image) read(at uint64) (leaf bool, valueSize int, entries []entry) {
	b := m.blocks[at]
	size, n := int(le.Uint32(b[24:])), int(le.Uint32(b[20:]))
	for i := range int(le.Uint32(b[16:])) {
		v := 32 + 8*n + size*i
		entries = append(entries, entry{le.Uint64(b[32+8*i:]), slices.Clone(b[v : v+size])})
	}
	return le.Uint32(b[4:]) == 2, size, entries
}

// replace gives a tree with another value for one key, which it has.
func (m *image) replace(root, key, value uint64) uint64 {
	leaf, size, entries := m.read(root)
	i, found := slices.BinarySearchFunc(entries, key, func(e entry, k uint64) int { return cmp.Compare(e.key, k) })
	if leaf {
		entries[i].value = u64(value)
	} else {
		if !found {
			i--
		}
		entries[i].value = u64(m.replace(le.Uint64(entries[i].value), key, value))
	}
	return m.node(leaf, size, entries)
}

func mapping(data uint64, time uint32) uint64 { return data<<24 | uint64(time) }

// add makes a device with the mappings key to data.
func (m *image) add(id uint64, perNode int, mappings map[uint64]uint64) *device {
	var entries []entry
	for k, d := range mappings {
		entries = append(entries, entry{k, u64(mapping(d, m.time))})
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	m.devices = append(m.devices, device{id: id, root: m.tree(8, perNode, entries), mapped: uint64(len(mappings)), created: m.time})
	return &m.devices[len(m.devices)-1]
}

// snapshot makes a device with another's root.
func (m *image) snapshot(id uint64, origin device) *device {
	m.time++
	m.devices = append(m.devices, device{id: id, root: origin.root, mapped: origin.mapped, created: m.time, snapped: m.time})
	return &m.devices[len(m.devices)-1]
}

func (m *image) refer(at uint64) (first bool) {
	m.counts[at]++
	return m.counts[at] == 1
}

// count walks a tree; leaf gets the values.
func (m *image) count(at uint64, leaf func(entry)) {
	if !m.refer(at) {
		return
	}
	isLeaf, _, entries := m.read(at)
	for _, e := range entries {
		switch {
		case !isLeaf:
			m.count(le.Uint64(e.value), leaf)
		case leaf != nil:
			leaf(e)
		}
	}
}

// roots writes the two trees that name the devices.
func (m *image) roots() (mapping, details uint64) {
	slices.SortFunc(m.devices, func(a, b device) int { return cmp.Compare(a.id, b.id) })
	var top, numbers []entry
	for _, d := range m.devices {
		top = append(top, entry{d.id, u64(d.root)})
		v := append(u64(d.mapped), u64(7)...)
		numbers = append(numbers, entry{d.id, le.AppendUint32(le.AppendUint32(v, d.created), d.snapped)})
	}
	return m.tree(8, 252, top), m.tree(24, 126, numbers)
}

// hold keeps what there is as the metadata snapshot.
func (m *image) hold() {
	m.held.mapping, m.held.details = m.roots()
	m.held.block = m.alloc()
	none := make([]byte, 32)
	b := m.superblock(none, none, m.held.mapping, m.held.details)
	le.PutUint64(b[56:], 0)
	copy(m.blocks[m.held.block], b)
	m.seal(m.held.block, superCsum)
}

// finish writes superblock and space maps and gives the bytes.
func (m *image) finish() []byte {
	mapping, details := m.roots()
	m.counts, m.dataCounts = map[uint64]uint32{0: 1}, map[uint64]uint32{}
	m.refer0(mapping, details)
	if m.held.block != 0 {
		m.refer(m.held.block)
		m.refer0(m.held.mapping, m.held.details)
	}
	if m.wrong != nil {
		m.wrong(m)
	}
	dataMap := m.spaceMap(m.data, m.dataCounts, func(entries []entry) uint64 { return m.tree(16, 168, entries) })
	m.count(le.Uint64(dataMap[16:]), func(e entry) { m.refer(le.Uint64(e.value)) })
	m.count(le.Uint64(dataMap[24:]), nil)
	m.blocks[0] = m.superblock(dataMap, m.metadataMap(), mapping, details)
	return m.bytes()
}

func (m *image) refer0(mappingRoot, detailsRoot uint64) {
	m.count(detailsRoot, nil)
	m.count(mappingRoot, func(e entry) {
		m.count(le.Uint64(e.value), func(e entry) { m.dataCounts[le.Uint64(e.value)>>24]++ })
	})
}

func (m *image) superblock(dataMap, metaMap []byte, mapping, details uint64) []byte {
	b := make([]byte, imageBlock)
	le.PutUint64(b[32:], 27022010)
	le.PutUint32(b[40:], 2)
	le.PutUint32(b[44:], m.time)
	le.PutUint64(b[48:], 42)
	le.PutUint64(b[56:], m.held.block)
	copy(b[64:], dataMap)
	copy(b[192:], metaMap)
	le.PutUint64(b[320:], mapping)
	le.PutUint64(b[328:], details)
	le.PutUint32(b[336:], 128)
	le.PutUint32(b[340:], 8)
	le.PutUint64(b[344:], uint64(cap(m.blocks)))
	sum(b, superCsum)
	return b
}

func (m *image) bytes() []byte {
	out := make([]byte, imageBlock*cap(m.blocks))
	for i, b := range m.blocks {
		copy(out[i*imageBlock:], b)
	}
	return out
}

// spaceMap writes bitmaps and counts; index makes what lists the bitmaps.
func (m *image) spaceMap(blocks uint64, counts map[uint64]uint32, index func([]entry) uint64) []byte {
	var list, large []entry
	for at := uint64(0); at < blocks; at += perBitmap {
		b := m.alloc()
		free := uint32(perBitmap)
		for i := range min(perBitmap, blocks-at) {
			c := counts[at+i]
			if c == 0 {
				continue
			}
			free--
			if c >= 3 {
				large = append(large, entry{at + i, le.AppendUint32(nil, c)})
			}
			setBits(m.blocks[b], i, min(c, 3))
		}
		m.seal(b, bitmapCsum)
		list = append(list, entry{at / perBitmap, le.AppendUint32(le.AppendUint32(u64(b), free), 0)})
	}
	root := append(u64(blocks), u64(uint64(len(counts)))...)
	root = append(root, u64(index(list))...)
	return append(root, u64(m.tree(4, 336, large))...)
}

func setBits(b []byte, i uint64, c uint32) {
	word := b[16+i/32*8:]
	v := le.Uint64(word)
	v |= uint64(c>>1) << (2 * (i % 32))
	v |= uint64(c&1) << (2*(i%32) + 1)
	le.PutUint64(word, v)
}

// metadataMap counts the blocks of itself too: all of its own are referred to once, and the tree of large counts does
// not depend on those.
func (m *image) metadataMap() []byte {
	total := uint64(cap(m.blocks))
	next := uint64(len(m.blocks))
	bitmaps := (total + perBitmap - 1) / perBitmap
	var large int
	for _, c := range m.counts {
		if c >= 3 {
			large++
		}
	}
	own := bitmaps + 1 // and the index
	for n := max(1, (large+335)/336); ; n = (n + 251) / 252 {
		own += uint64(n)
		if n == 1 {
			break
		}
	}
	for i := range own {
		m.counts[next+i] = 1
	}
	return m.spaceMap(total, m.counts, func(entries []entry) uint64 {
		at := m.alloc()
		for i, e := range entries {
			copy(m.blocks[at][16+16*i:], e.value)
		}
		m.seal(at, indexCsum)
		return at
	})
}
