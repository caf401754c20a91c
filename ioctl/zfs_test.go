package ioctl

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The distributions' kernel headers do not have ZFS's. These are the offsets that a
// compiler gave for the headers of every release from 2.0.0 to 2.4.4 except 2.3.1;
// package zfsds compares answers of the running module when it opens.
func TestZFSABI(t *testing.T) {
	var c ZFSCmd
	var s ZFSObjsetStats
	var z ZFSStat
	base := func(p unsafe.Pointer) uintptr { return uintptr(p) - uintptr(unsafe.Pointer(&c)) }
	for name, row := range map[string][2]uintptr{
		"nvlist_src":        {4096, base(unsafe.Pointer(&c.NvlistSrc))},
		"nvlist_src_size":   {4104, base(unsafe.Pointer(&c.NvlistSrcSize))},
		"nvlist_dst":        {4112, base(unsafe.Pointer(&c.NvlistDst))},
		"nvlist_dst_size":   {4120, base(unsafe.Pointer(&c.NvlistDstSize))},
		"nvlist_dst_filled": {4128, base(unsafe.Pointer(&c.DstFilled))},
		"history":           {4136, base(unsafe.Pointer(&c.History))},
		"value":             {4144, base(unsafe.Pointer(&c.Value))},
		"string":            {12336, base(unsafe.Pointer(&c.String))},
		"guid":              {12592, base(unsafe.Pointer(&c.GUID))},
		"nvlist_conf":       {12600, base(unsafe.Pointer(&c.NvlistConf))},
		"nvlist_conf_size":  {12608, base(unsafe.Pointer(&c.ConfSize))},
		"cookie":            {12616, base(unsafe.Pointer(&c.Cookie))},
		"objset_type":       {12624, base(unsafe.Pointer(&c.ObjsetType))},
		"perm_action":       {12632, base(unsafe.Pointer(&c.PermAction))},
		"history_len":       {12640, base(unsafe.Pointer(&c.HistoryLen))},
		"history_offset":    {12648, base(unsafe.Pointer(&c.HistoryOff))},
		"obj":               {12656, base(unsafe.Pointer(&c.Obj))},
		"iflags":            {12664, base(unsafe.Pointer(&c.Iflags))},
		"share":             {12672, base(unsafe.Pointer(&c.Share))},
		"objset_stats":      {12704, base(unsafe.Pointer(&c.ObjsetStats))},
		"begin_record":      {12992, base(unsafe.Pointer(&c.BeginRecord))},
		"inject_record":     {13296, base(unsafe.Pointer(&c.Inject))},
		"defer_destroy":     {13648, base(unsafe.Pointer(&c.DeferDestroy))},
		"flags":             {13652, base(unsafe.Pointer(&c.Flags))},
		"action_handle":     {13656, base(unsafe.Pointer(&c.ActionHandle))},
		"cleanup_fd":        {13664, base(unsafe.Pointer(&c.CleanupFd))},
		"simple":            {13668, base(unsafe.Pointer(&c.Simple))},
		"sendobj":           {13672, base(unsafe.Pointer(&c.Sendobj))},
		"fromobj":           {13680, base(unsafe.Pointer(&c.Fromobj))},
		"createtxg":         {13688, base(unsafe.Pointer(&c.Createtxg))},
		"stat":              {13696, base(unsafe.Pointer(&c.Stat))},
		"zoneid":            {13736, base(unsafe.Pointer(&c.Zoneid))},
		"size":              {13744, unsafe.Sizeof(c)},
		"stats.guid":        {16, unsafe.Offsetof(s.GUID)},
		"stats.type":        {24, unsafe.Offsetof(s.Type)},
		"stats.is_snapshot": {28, unsafe.Offsetof(s.IsSnapshot)},
		"stats.origin":      {31, unsafe.Offsetof(s.Origin)},
		"stats size":        {288, unsafe.Sizeof(s)},
		"stat.ctime":        {24, unsafe.Offsetof(z.Ctime)},
		"stat size":         {40, unsafe.Sizeof(z)},
		"buffer":            {zfsCmdRoom, unsafe.Sizeof(ZFSBuffer{})},
	} {
		require.Equal(t, row[0], row[1], name)
	}
}

func TestZFSNamesAreBounded(t *testing.T) {
	var b ZFSBuffer
	require.NoError(t, b.SetName("a-long-name"))
	require.NoError(t, b.SetName("pool"))
	require.Equal(t, "pool", CString(b.Name[:]))
	require.Zero(t, b.Name[6], "what was there before is gone")
	require.ErrorIs(t, b.SetName(string(make([]byte, 5000))), unix.ENAMETOOLONG)
	require.ErrorIs(t, b.SetValue("a\x00b"), unix.ENAMETOOLONG)
}

func TestParseZFSDiffRecord(t *testing.T) {
	raw := make([]byte, 24)
	raw[0], raw[8], raw[16] = DDR_INUSE, 7, 9
	if raw[7] == 0 && *(*uint64)(unsafe.Pointer(&raw[0])) == DDR_INUSE {
		record, ok := ParseZFSDiffRecord(raw)
		require.True(t, ok)
		require.Equal(t, ZFSDiffRecord{Type: DDR_INUSE, First: 7, Last: 9}, record)
	}
	_, ok := ParseZFSDiffRecord(raw[:23])
	require.False(t, ok)
}
