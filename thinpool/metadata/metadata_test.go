package metadata_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/thinpool/metadata"
)

// A model is what a pool is known to hold: the data block of each virtual block of each device.
type model map[uint64]map[uint64]uint64

func open(t testing.TB, b []byte) *metadata.View {
	t.Helper()
	v, err := metadata.Open(bytes.NewReader(b))
	require.NoError(t, err)
	return v
}

// agree compares all that a View says with the model.
func agree(t *testing.T, v *metadata.View, want model) {
	t.Helper()
	ctx := t.Context()
	devices, err := v.Devices(ctx)
	require.NoError(t, err)
	require.Len(t, devices, len(want))
	owners := want.owners()
	usage, err := v.Usage(ctx)
	require.NoError(t, err)
	require.EqualValues(t, len(owners), usage.Used)
	sum := usage.Shared
	for i, d := range devices {
		require.Equal(t, want[uint64(d.ID)], mappingsOf(t, v, d.ID), "device %d", d.ID)
		require.EqualValues(t, len(want[uint64(d.ID)]), d.Mapped)
		u := usage.Devices[i]
		require.Equal(t, d, u.Device)
		require.EqualValues(t, want.freed(owners, uint64(d.ID)), u.Exclusive, "device %d", d.ID)
		alone := want.alone(owners, uint64(d.ID))
		switch found := aloneIn(t, v, d.ID); {
		case v.Held():
		case v.Superblock().HeldRoot != 0:
			require.Subset(t, alone, found, "device %d: what a metadata snapshot holds is shared", d.ID)
		default:
			require.Equal(t, alone, found, "device %d", d.ID)
		}
		sum += u.Exclusive
	}
	require.Equal(t, usage.Used, sum)
}

func mappingsOf(t *testing.T, v *metadata.View, id dm.DeviceID) map[uint64]uint64 {
	t.Helper()
	got := map[uint64]uint64{}
	var last metadata.Mapping
	for m, err := range v.Mappings(t.Context(), id) {
		require.NoError(t, err)
		require.Positive(t, m.Length)
		require.GreaterOrEqual(t, m.Begin, last.Begin+last.Length)
		joins := last.Length > 0 && m.Begin == last.Begin+last.Length && m.Data == last.Data+last.Length && m.Time == last.Time
		require.False(t, joins, "runs are as long as can be")
		for i := range m.Length {
			got[uint64(m.Begin+i)] = uint64(m.Data + i)
		}
		last = m
	}
	return got
}

// owners lists, for each data block, the devices that map it.
func (m model) owners() map[uint64]map[uint64]bool {
	owners := map[uint64]map[uint64]bool{}
	for id, blocks := range m {
		for _, data := range blocks {
			if owners[data] == nil {
				owners[data] = map[uint64]bool{}
			}
			owners[data][id] = true
		}
	}
	return owners
}

// alone lists the virtual blocks of a device whose data blocks no other device maps.
func (m model) alone(owners map[uint64]map[uint64]bool, id uint64) []uint64 {
	var blocks []uint64
	for virtual, data := range m[id] {
		if len(owners[data]) == 1 {
			blocks = append(blocks, virtual)
		}
	}
	slices.Sort(blocks)
	return blocks
}

// aloneIn is the same as the View says it.
func aloneIn(t *testing.T, v *metadata.View, id dm.DeviceID) []uint64 {
	t.Helper()
	var blocks []uint64
	end := dm.Blocks(0)
	for r, err := range v.Alone(t.Context(), id) {
		if v.Held() {
			require.ErrorIs(t, err, metadata.ErrNoSpaceMaps)
			return nil
		}
		require.NoError(t, err)
		require.Positive(t, r.Length)
		require.True(t, len(blocks) == 0 || r.Begin > end, "runs are as long as can be")
		end = r.Begin + r.Length
		for b := r.Begin; b < end; b++ {
			blocks = append(blocks, uint64(b))
		}
	}
	return blocks
}

// freed counts the blocks that only the group maps.
func (m model) freed(owners map[uint64]map[uint64]bool, group ...uint64) int {
	n := 0
	for _, of := range owners {
		outside := false
		for id := range of {
			outside = outside || !slices.Contains(group, id)
		}
		if !outside {
			n++
		}
	}
	return n
}

// changes is the delta, block by block.
func (m model) changes(left, right uint64, same bool) map[uint64]metadata.ChangeKind {
	out := map[uint64]metadata.ChangeKind{}
	for k, d := range m[left] {
		other, both := m[right][k]
		switch {
		case !both:
			out[k] = metadata.LeftOnly
		case d != other:
			out[k] = metadata.Different
		case same:
			out[k] = metadata.Same
		}
	}
	for k := range m[right] {
		if _, both := m[left][k]; !both {
			out[k] = metadata.RightOnly
		}
	}
	return out
}

func deltaOf(t *testing.T, v *metadata.View, o metadata.DeltaOptions) map[uint64]metadata.ChangeKind {
	t.Helper()
	got := map[uint64]metadata.ChangeKind{}
	for c, err := range v.Delta(t.Context(), o) {
		require.NoError(t, err)
		for i := range c.Length {
			got[uint64(c.Begin+i)] = c.Kind
		}
	}
	return got
}

// randomPool makes an image with deep sharing of nodes, and its model. Nodes that are not full hold at least so many
// entries.
func randomPool(r *rand.Rand, least int) ([]byte, model) {
	const data = 1 << 15
	img := newImage(2048, data)
	free := r.Perm(data)
	take := func() uint64 {
		d := free[0]
		free = free[1:]
		return uint64(d)
	}
	m := model{}
	for id := range uint64(1 + r.IntN(3)) {
		blocks := map[uint64]uint64{}
		for range r.IntN(1500) {
			blocks[r.Uint64N(4000)] = take()
		}
		img.add(id*5, least+r.IntN(253-least), blocks)
		m[id*5] = blocks
	}
	for id := range uint64(r.IntN(12)) {
		id += 100
		if r.IntN(6) == 0 && img.held.block == 0 {
			img.hold()
		}
		origin := img.devices[r.IntN(len(img.devices))]
		d := img.snapshot(id, origin)
		m[id] = map[uint64]uint64{}
		keys := []uint64{}
		for k, v := range m[origin.id] {
			m[id][k] = v
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for range min(r.IntN(8), len(keys)) {
			k := keys[r.IntN(len(keys))]
			m[id][k] = take()
			d.root = img.replace(d.root, k, mapping(m[id][k], img.time))
		}
	}
	return img.finish(), m
}

func TestRandomPools(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		b, m := randomPool(r, 2)
		v := open(t, b)
		agree(t, v, m)
		findings, err := v.Check(t.Context(), metadata.CheckOptions{})
		require.NoError(t, err)
		require.Empty(t, findings, "seed %d", seed)

		ids := make([]uint64, 0, len(m))
		for id := range m {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		left, right := ids[r.IntN(len(ids))], ids[r.IntN(len(ids))]
		for _, same := range []bool{false, true} {
			o := metadata.DeltaOptions{Left: dm.DeviceID(left), Right: dm.DeviceID(right), Same: same}
			require.Equal(t, m.changes(left, right, same), deltaOf(t, v, o), "seed %d, %d and %d", seed, left, right)
		}
		group := ids[:1+r.IntN(len(ids))]
		var devices []dm.DeviceID
		for _, id := range group {
			devices = append(devices, dm.DeviceID(id))
		}
		g, err := v.Group(t.Context(), devices...)
		require.NoError(t, err)
		require.EqualValues(t, m.freed(m.owners(), group...), g.Exclusive)
	}
}
