package lvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/thinpool"
)

// fake answers LVM's commands with what a real one printed (testdata, LVM 2.03.16), and keeps what was asked.
type fake struct {
	t     *testing.T
	asked []string
	// fail is the command that fails, and says so on stderr.
	fail string
	// free replaces the free bytes of the group.
	free string
}

func newFake(t *testing.T) (*Tool, *fake) {
	f := &fake{t: t}
	return &Tool{execute: f.execute}, f
}

func (f *fake) execute(_ context.Context, args []string) ([]byte, []byte, error) {
	f.asked = append(f.asked, strings.Join(args, " "))
	if args[0] == f.fail {
		return nil, []byte("  Insufficient free space\n\n  and more\n"), errors.New("exit status 5")
	}
	out, err := os.ReadFile(filepath.Join("testdata", args[0]+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	require.NoError(f.t, err)
	if f.free != "" && args[0] == "vgs" {
		out = []byte(strings.Replace(string(out), `"vg_free":"`+capturedFree, `"vg_free":"`+f.free, 1))
	}
	return out, nil, nil
}

// What testdata holds.
const (
	capturedFree  = "394264576"
	capturedGroup = "blockstore-5f0ce8d2"
)

var owner = uuid.MustParse("5f0ce8d2-7b1c-4f3a-9a55-0d4b6f3d1c10")

func TestReports(t *testing.T) {
	tool, _ := newFake(t)
	groups, err := tool.Groups(t.Context())
	require.NoError(t, err)
	require.Len(t, groups, 1)
	require.Equal(t, capturedGroup, groups[0].Name)
	require.Equal(t, []string{tag(owner), "site.a"}, groups[0].Tags)
	require.EqualValues(t, 4<<20, groups[0].Extent)

	disks, err := tool.Disks(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"", capturedGroup}, []string{disks[0].Group, disks[1].Group})

	pool, err := tool.Lookup(t.Context(), "/dev/"+capturedGroup+"/pool")
	require.NoError(t, err)
	require.True(t, pool.Active)
	require.EqualValues(t, []uint64{500 << 20, 64 << 20}, []uint64{pool.Size, pool.MetadataSize})
	require.Regexp(t, `^LVM-[0-9A-Za-z]{64}-tpool$`, pool.DeviceUUID())
	require.Regexp(t, `^LVM-[0-9A-Za-z]{64}-pool$`, pool.FrontUUID())
	for _, device := range []string{pool.DeviceUUID(), pool.FrontUUID()} {
		found, err := tool.Owner(t.Context(), device)
		require.NoError(t, err)
		require.Equal(t, pool, found)
	}
	found, err := tool.Find(t.Context(), pool.GroupUUID, pool.UUID)
	require.NoError(t, err)
	require.Equal(t, pool, found)

	foreign, err := tool.Foreign(t.Context(), groups[0].UUID, pool.UUID)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{capturedGroup + "/theirs", capturedGroup + "/plain"}, foreign)
	_, err = tool.Lookup(t.Context(), capturedGroup+"/plain")
	require.ErrorIs(t, err, thinpool.ErrInvalid)
	_, err = tool.Lookup(t.Context(), capturedGroup+"/nosuch")
	require.ErrorIs(t, err, ErrNotFound)
}

func TestReportsThatAreNone(t *testing.T) {
	for name, out := range map[string]string{
		"empty": "", "no JSON": "  LV VG\n", "no report": "{}", "another kind of report": `{"report":[{"lv":[{"vg_name":"x"}]}]}`,
		"a number that is none": `{"report":[{"lv":[{"vg_name":"","vg_uuid":"","lv_name":"","lv_uuid":"","lv_layout":"","lv_active":"","lv_metadata_size":"","lv_size":"1.00g"}]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			tool := &Tool{execute: func(context.Context, []string) ([]byte, []byte, error) { return []byte(out), nil, nil }}
			_, err := tool.Volumes(t.Context())
			require.ErrorIs(t, err, ErrCommand)
		})
	}
	tool := &Tool{execute: func(context.Context, []string) ([]byte, []byte, error) {
		return []byte(`{"report":[{"lv":[]}],"log":[]}`), nil, nil
	}}
	all, err := tool.Volumes(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
}

func FuzzParseReport(f *testing.F) {
	for _, name := range []string{"lvs", "vgs", "pvs"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := parseReport(b, "lv")
		if err == nil {
			for _, r := range rows {
				require.NotNil(t, r.fields)
			}
		}
	})
}

func TestFailedCommandSaysWhy(t *testing.T) {
	tool, f := newFake(t)
	f.fail = "lvs"
	_, err := tool.Volumes(t.Context())
	require.ErrorIs(t, err, ErrCommand)
	require.ErrorContains(t, err, "Insufficient free space; and more")
}

func TestVersions(t *testing.T) {
	for text, ok := range map[string]bool{
		"  LVM version:     2.03.16(2) (2022-05-18)\n  Library version: 1.02.185\n": true,
		"  LVM version:     2.02.158(2) (2016-06-25)":                               true,
		"  LVM version:     2.02.157(2) (2016-06-17)":                               false,
		"  LVM version:     3.00.0":                                                 true,
		"lvm: not found":                                                            false,
	} {
		tool := &Tool{execute: func(context.Context, []string) ([]byte, []byte, error) { return []byte(text), nil, nil }}
		err := tool.checkVersion(t.Context())
		if ok {
			require.NoError(t, err, text)
		} else {
			require.ErrorIs(t, err, ErrMissing, text)
		}
	}
}

func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := New(t.Context(), Options{})
	require.ErrorIs(t, err, ErrMissing)
	require.ErrorContains(t, err, "package lvm2")
}

// TestCommandsAreBounded has a command that does not end by itself but when it is told to.
func TestCommandsAreBounded(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "lvm")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\ntrap 'echo interrupted >&2; exit 5' INT\nwhile :; do sleep 0.05; done\n"), 0o755))
	tool := &Tool{execute: program(script)}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := tool.run(ctx, "lvs")
	require.ErrorIs(t, err, ErrCommand)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestDiskUUIDs(t *testing.T) {
	require.Regexp(t, `^[0-9a-f]{6}(-[0-9a-f]{4}){5}-[0-9a-f]{6}$`, diskUUID(owner, 0))
	require.Len(t, diskUUIDs(owner), maxDisks)
	require.NotContains(t, diskUUIDs(uuid.New()), diskUUID(owner, 0))
}

func TestFronted(t *testing.T) {
	for name, fronted := range map[string]bool{"vg-pool": false, "vg-pool-tpool": true, "vg-my--tpool": false, "v--g-my--tpool-tpool": true} {
		require.Equal(t, fronted, Fronted(name), name)
	}
}

func TestExtensionPlans(t *testing.T) {
	const extent = 4 << 20
	v := Volume{Group: "g", Name: "pool", Size: 1 << 30, MetadataSize: 64 << 20}
	for name, c := range map[string]struct {
		free     uint64
		o        ExtendOptions
		data     uint64
		metadata uint64
		err      error
	}{
		"all that is free":       {free: 10 * extent, data: 1<<30 + 10*extent, metadata: 64 << 20},
		"disks keep a twentieth": {free: 100 * extent, o: ExtendOptions{Devices: []string{"d"}}, data: 1<<30 + 95*extent, metadata: 64 << 20},
		"a size, rounded up":     {free: 10 * extent, o: ExtendOptions{Size: 1<<30 + 1}, data: 1<<30 + extent, metadata: 64 << 20},
		"the same size":          {free: 0, o: ExtendOptions{Size: 1 << 30}, data: 1 << 30, metadata: 64 << 20},
		"metadata grow with it":  {free: 200 << 30, o: ExtendOptions{Size: 100 << 30}, data: 100 << 30, metadata: 104 << 20},
		"full":                   {free: 0, err: thinpool.ErrNoSpace},
		"too much":               {free: 10 * extent, o: ExtendOptions{Size: 1<<30 + 11*extent}, err: thinpool.ErrNoSpace},
		"no room for metadata":   {free: 99 << 30, o: ExtendOptions{Size: 100 << 30}, err: thinpool.ErrNoSpace},
		"smaller":                {free: 10 * extent, o: ExtendOptions{Size: 1 << 20}, err: thinpool.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			data, metadata, err := Group{Name: "g", Extent: extent, Free: c.free}.plan(v, c.o)
			require.ErrorIs(t, err, c.err)
			require.Equal(t, []uint64{c.data, c.metadata}, []uint64{data, metadata})
		})
	}
}

// TestExtend is what LVM is asked for.
func TestExtend(t *testing.T) {
	tool, f := newFake(t)
	pool, err := tool.Lookup(t.Context(), capturedGroup+"/pool")
	require.NoError(t, err)
	f.asked, f.free = nil, "1073741824"
	require.NoError(t, tool.Extend(t.Context(), ExtendOptions{Owner: owner, Pool: pool.UUID, Size: 600 << 20}))
	require.Equal(t, "lvextend --size 629145600b "+capturedGroup+"/pool", f.asked[len(f.asked)-1])
	require.Len(t, f.asked, 3, "two reports")
	require.ErrorIs(t, tool.Extend(t.Context(), ExtendOptions{Owner: uuid.New(), Pool: pool.UUID}), ErrNotFound)
}

// TestRoom is what a watched pool may still become, and what LVM is asked for then.
func TestRoom(t *testing.T) {
	tool, f := newFake(t)
	pool, err := tool.Lookup(t.Context(), capturedGroup+"/pool")
	require.NoError(t, err)
	f.free = "1073741824"
	room, err := tool.Room(t.Context(), owner)
	require.NoError(t, err)
	require.Equal(t, Room{Data: 1 << 30 / 20 * 19 / (4 << 20) * (4 << 20), Metadata: 512 << 20}, room)
	require.NoError(t, tool.ExtendMetadata(t.Context(), owner, pool, pool.MetadataSize+9<<20))
	require.Equal(t, "lvextend --poolmetadatasize +8388608b "+capturedGroup+"/pool", f.asked[len(f.asked)-1], "in whole extents")
	require.ErrorIs(t, tool.ExtendMetadata(t.Context(), owner, pool, pool.MetadataSize+1), thinpool.ErrNoSpace)
	require.NoError(t, tool.ErrorWhenFull(t.Context(), pool, false))
	require.Equal(t, "lvchange --errorwhenfull n "+capturedGroup+"/pool", f.asked[len(f.asked)-1])
	_, err = tool.Room(t.Context(), uuid.New())
	require.ErrorIs(t, err, ErrNotFound)
}

// TestRemoveGroupIsForOurs refuses a group with volumes of others in it, and does nothing for owners without one.
func TestRemoveGroupIsForOurs(t *testing.T) {
	tool, f := newFake(t)
	pool, err := tool.Lookup(t.Context(), capturedGroup+"/pool")
	require.NoError(t, err)
	f.asked = nil
	require.ErrorIs(t, tool.RemoveGroup(t.Context(), owner, pool.UUID), ErrForeign)
	require.NoError(t, tool.RemoveGroup(t.Context(), uuid.New(), pool.UUID))
	for _, asked := range f.asked {
		require.NotContains(t, asked, "remove")
	}
}
