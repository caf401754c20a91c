package zfsds

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/zfsds/nvlist"
)

// A module answers requests in the kernel's place.
type module func(request uintptr, b *ioctl.ZFSBuffer, arguments *nvlist.List) (result *nvlist.List, err error)

func (m module) handle(t *testing.T) *Handle {
	k := &kernel{}
	k.call = func(request uintptr, b *ioctl.ZFSBuffer, source, destination []byte) error {
		var arguments *nvlist.List
		if len(source) > 0 {
			var err error
			arguments, err = nvlist.Unmarshal(source)
			require.NoError(t, err)
		}
		result, err := m(request, b, arguments)
		if result == nil {
			return err
		}
		raw, marshalErr := nvlist.Marshal(result)
		require.NoError(t, marshalErr)
		if len(raw) > len(destination) {
			return unix.ENOMEM
		}
		copy(destination, raw)
		b.DstFilled = 1
		return err
	}
	return &Handle{Ioctl, "a test's", k}
}

func answering(err error) module {
	return func(uintptr, *ioctl.ZFSBuffer, *nvlist.List) (*nvlist.List, error) { return nil, err }
}

// TestErrnos crosses operations with what the kernel may answer.
func TestErrnos(t *testing.T) {
	ctx := t.Context()
	operations := map[string]func(h *Handle) error{
		"create":   func(h *Handle) error { return h.Create(ctx, "p/a", nil) },
		"clone":    func(h *Handle) error { return h.Clone(ctx, "p/a@s", "p/b", nil) },
		"snapshot": func(h *Handle) error { return h.Snapshot(ctx, nil, "p/a@s") },
		"destroy":  func(h *Handle) error { return h.Destroy(ctx, "p/a") },
		"snaps":    func(h *Handle) error { return h.DestroySnapshots(ctx, false, "p/a@s") },
		"rename":   func(h *Handle) error { return h.Rename(ctx, "p/a", "p/b") },
		"set":      func(h *Handle) error { return h.Set(ctx, "p/a", Properties{"a:b": "c"}) },
		"release":  func(h *Handle) error { return h.Release(ctx, "p/a@s", "tag") },
		"get":      func(h *Handle) error { _, err := h.Get(ctx, "p/a"); return err },
		"send":     func(h *Handle) error { return h.Send(ctx, io.Discard, SendOptions{Snapshot: "p/a@s"}) },
		"written":  func(h *Handle) error { _, err := h.WrittenSince(ctx, "p/a", "p/a@s"); return err },
	}
	for errno, want := range map[unix.Errno]error{
		unix.ENOENT: ErrNotFound, unix.EEXIST: ErrExists, unix.EBUSY: ErrBusy, unix.ENOSPC: ErrNoSpace, unix.EDQUOT: ErrNoSpace,
		unix.EROFS: ErrReadOnly, unix.EACCES: ErrNoKey, unix.EINVAL: ErrInvalid, unix.EXDEV: ErrInvalid,
		ioctl.ZFS_ERR_IOC_ARG_UNAVAIL: ErrNotSupported, ioctl.ZFS_ERR_IOC_CMD_UNAVAIL: ErrNotSupported,
	} {
		for name, do := range operations {
			expected := want
			if errno == unix.EEXIST && (name == "destroy" || name == "snaps") {
				expected = ErrDependents
			}
			err := do(answering(errno).handle(t))
			require.ErrorIs(t, err, expected, "%s: %d", name, errno)
			require.ErrorIs(t, err, errno)
		}
	}
}

func TestRequestsOfOneName(t *testing.T) {
	var got *nvlist.List
	h := module(func(request uintptr, b *ioctl.ZFSBuffer, arguments *nvlist.List) (*nvlist.List, error) {
		require.EqualValues(t, ioctl.ZFS_IOC_CLONE, request)
		require.Equal(t, "p/b", ioctl.CString(b.Name[:]))
		got = arguments
		return nil, nil
	}).handle(t)
	require.NoError(t, h.Clone(t.Context(), "p/a@s", "p/b", Properties{"refquota": "1024"}))
	require.Equal(t, new(nvlist.List).Set("origin", "p/a@s").Set("props", new(nvlist.List).Set("refquota", uint64(1024))), got)
	require.ErrorIs(t, h.Clone(t.Context(), "p/a@s", "p/b", Properties{"sharenfs": "on"}), ErrNotSupported)
}

func TestErrorNamesTheSnapshot(t *testing.T) {
	h := module(func(uintptr, *ioctl.ZFSBuffer, *nvlist.List) (*nvlist.List, error) {
		return new(nvlist.List).Set("p/b@s", int32(unix.EBUSY)), unix.EBUSY
	}).handle(t)
	err := h.DestroySnapshots(t.Context(), false, "p/a@s", "p/b@s")
	require.ErrorIs(t, err, ErrBusy)
	require.ErrorContains(t, err, "p/b@s: ")
}

func TestResultsGrow(t *testing.T) {
	value := new(nvlist.List).Set("value", string(make([]byte, 0, 10))).Set("source", "p")
	properties := &nvlist.List{}
	for i := range 5000 {
		properties.Set("a:"+string(rune('a'+i%26))+string(rune('0'+i%10))+string(rune(0x4e00+i)), value)
	}
	calls := 0
	h := module(func(uintptr, *ioctl.ZFSBuffer, *nvlist.List) (*nvlist.List, error) {
		calls++
		return properties, nil
	}).handle(t)
	d, err := h.Get(t.Context(), "p")
	require.NoError(t, err)
	require.Len(t, d.User, 5000)
	require.Greater(t, calls, 1)
	_, err = answering(unix.ENOMEM).handle(t).Get(t.Context(), "p")
	require.ErrorIs(t, err, unix.ENOMEM, "growing has an end")
}

func TestInterruptedRequests(t *testing.T) {
	calls := 0
	h := module(func(uintptr, *ioctl.ZFSBuffer, *nvlist.List) (*nvlist.List, error) {
		if calls++; calls < 3 {
			return nil, unix.EINTR
		}
		return nil, nil
	}).handle(t)
	_, err := h.Stat(t.Context(), "p/a")
	require.NoError(t, err)
	require.Equal(t, 3, calls)
	calls = 0
	require.NoError(t, h.DestroySnapshots(t.Context(), true, "p/a@s", "p/a@t"))
	require.Equal(t, 3, calls, "those that are gone are passed over")
	require.ErrorIs(t, answering(unix.EINTR).handle(t).Destroy(t.Context(), "p/a"), unix.EINTR, "not what may be done already")
}

// A list whose cursor stands still, and answers of a wrong shape, are errors.
func TestUnreadableAnswers(t *testing.T) {
	ctx := t.Context()
	h := answering(nil).handle(t)
	for _, err := range h.Children(ctx, "p") {
		require.ErrorIs(t, err, ErrCorrupt)
	}
	for name, properties := range map[string]*nvlist.List{
		"no list":    new(nvlist.List).Set("used", uint64(1)),
		"no value":   new(nvlist.List).Set("a:b", new(nvlist.List).Set("source", "p")),
		"no source":  new(nvlist.List).Set("a:b", new(nvlist.List).Set("value", "p")),
		"wrong type": new(nvlist.List).Set("a:b", new(nvlist.List).Set("value", uint64(1)).Set("source", "p")),
	} {
		h := module(func(uintptr, *ioctl.ZFSBuffer, *nvlist.List) (*nvlist.List, error) { return properties, nil }).handle(t)
		_, err := h.Get(ctx, "p")
		require.ErrorIs(t, err, ErrCorrupt, name)
	}
	k := &kernel{call: func(_ uintptr, b *ioctl.ZFSBuffer, _, destination []byte) error {
		b.DstFilled = 1
		copy(destination, "not a list")
		return nil
	}}
	_, err := (&Handle{backend: k}).Get(ctx, "p")
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorIs(t, err, nvlist.ErrFormat)
	_, err = (&Handle{backend: k}).Pools(ctx)
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = answering(nil).handle(t).Pool(ctx, "p")
	require.ErrorIs(t, err, ErrCorrupt, "a pool without a size")
}

// TestComparisonEnds: the kernel's last record goes to the highest number there is, and a comparison that
// is interrupted after any of them looks at each object once all the same.
func TestComparisonEnds(t *testing.T) {
	all := ^uint64(0)
	records := [][]uint64{{ioctl.DDR_INUSE, 0, 2}, {ioctl.DDR_NONE, 3, 4}, {ioctl.DDR_FREE, 5, all}}
	for interrupted := range len(records) + 1 {
		looked, begun := []uint64{}, 0
		k := &kernel{call: func(request uintptr, b *ioctl.ZFSBuffer, _, _ []byte) error {
			switch request {
			case ioctl.ZFS_IOC_DIFF:
				begun++
				for i, words := range records {
					if begun == 1 && i == interrupted {
						return unix.EINTR
					}
					var raw []byte
					for _, word := range words {
						raw = binary.NativeEndian.AppendUint64(raw, word)
					}
					if _, err := unix.Write(int(b.Cookie), raw); err != nil {
						return err
					}
				}
				if begun == 1 {
					return unix.EINTR
				}
				return nil
			case ioctl.ZFS_IOC_NEXT_OBJ:
				if b.Obj >= 9 {
					return unix.ESRCH
				}
				b.Obj = 9
				return nil
			}
			looked = append(looked, b.Obj)
			return unix.ENOENT
		}}
		for c, err := range (&Handle{backend: k}).Changes(t.Context(), "p@a", "p@b") {
			t.Fatal(c, err)
		}
		require.Equal(t, 2, begun)
		require.Equal(t, []uint64{1, 1, 2, 2, 9, 9}, looked, "interrupted after %d records", interrupted)
	}
}

func TestSelfTest(t *testing.T) {
	guid := func(said uint64) *nvlist.List {
		return new(nvlist.List).Set("guid", new(nvlist.List).Set("value", said)).Set("createtxg", new(nvlist.List).Set("value", uint64(4)))
	}
	healthy := func(request uintptr, b *ioctl.ZFSBuffer, _ *nvlist.List) (*nvlist.List, error) {
		switch request {
		case ioctl.ZFS_IOC_POOL_CONFIGS:
			return new(nvlist.List).Set("p", new(nvlist.List)), nil
		case ioctl.ZFS_IOC_OBJSET_STATS:
			b.ObjsetStats.GUID, b.ObjsetStats.CreationTxg = 77, 4
			return guid(77), nil
		}
		return nil, unix.Errno(ioctl.ZFS_ERR_IOC_ARG_UNAVAIL)
	}
	selfTest := func(m module) error { return m.handle(t).backend.(*kernel).selfTest(t.Context()) }
	require.NoError(t, selfTest(healthy))
	for name, m := range map[string]module{
		"fields moved": func(request uintptr, b *ioctl.ZFSBuffer, a *nvlist.List) (*nvlist.List, error) {
			result, err := healthy(request, b, a)
			b.ObjsetStats.GUID = 0
			return result, err
		},
		"unknown arguments taken": func(request uintptr, b *ioctl.ZFSBuffer, a *nvlist.List) (*nvlist.List, error) {
			if request == ioctl.ZFS_IOC_CLONE {
				return nil, unix.EINVAL
			}
			return healthy(request, b, a)
		},
		"requests renumbered": answering(unix.ENOTTY),
	} {
		require.ErrorIs(t, selfTest(m), ErrNotSupported, name)
	}
}

func TestVersions(t *testing.T) {
	for _, good := range []string{"2.0.0-1", "2.1.11-1", "2.3.9-1~deb13", "2.4.4", "2.3.10"} {
		require.NoError(t, checkVersion(good), good)
	}
	for _, bad := range []string{"0.8.6-1", "2.3.1-1", "2.5.0", "3.0.0", "", "x", "2"} {
		err := checkVersion(bad)
		if bad == "2" {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, ErrNotSupported, bad)
	}
}

func TestOpenWithoutZFS(t *testing.T) {
	if _, err := os.Stat(devicePath); err == nil {
		t.Skip("the case is that of a kernel without the module, and this one has it")
	}
	for _, way := range []Access{Auto, Ioctl} {
		_, err := Open(t.Context(), Options{Access: way})
		require.ErrorIs(t, err, ErrNotSupported)
		require.ErrorContains(t, err, "modprobe zfs")
	}
	_, err := Open(t.Context(), Options{Access: CLI})
	require.ErrorIs(t, err, ErrNotSupported)
	_, err = Open(t.Context(), Options{Access: "telepathy"})
	require.ErrorIs(t, err, ErrInvalid)
	require.False(t, errors.Is(err, ErrNotSupported))
}
