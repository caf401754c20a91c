package dm

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blockstore.dev/blockstore/ioctl"
	"github.com/stretchr/testify/require"
)

// The wire goldens under testdata/wire are requests of this package and the replies of a
// real kernel (Linux 6.1, interface 4.47), recorded by TestKernelWire in User Mode Linux.

const wireDir = "testdata/wire"

// recorder keeps the bytes of each call in between.
type recorder struct {
	control
	label   string
	records map[string][]byte
	order   []string
}

func (r *recorder) ioctl(command uint32, buffer *ioctl.DMBuffer) error {
	request := bytes.Clone(buffer.Bytes())
	err := r.control.ioctl(command, buffer)
	if r.label != "" && err == nil {
		h := buffer.Header()
		end := min(max(int(h.DataSize), ioctl.DMIoctlSize), len(buffer.Bytes()))
		r.records[r.label+".request"] = bytes.TrimRight(request, "\x00")
		r.records[r.label+".reply"] = bytes.Clone(buffer.Bytes()[:end])
		r.order = append(r.order, r.label)
		r.label = ""
	}
	return err
}

// wireScript is a fixed sequence of operations whose wire form depends on nothing but dm's
// major, as long as no other device exists. The goldens' major is 254 (fakeMajor); a kernel
// with md in it, which takes that, gives dm another.
func wireScript(t *testing.T, c *Client, label func(string)) {
	t.Helper()
	ctx := t.Context()
	step := func(name string, call func() error) {
		label(name)
		require.NoError(t, call(), name)
	}
	table := NewTable(64, Zero{}).Append(32, ErrorTarget{})
	t.Cleanup(func() {
		for _, name := range []string{"bstest-wire", "bstest-wire2", "bstest-other"} {
			if _, err := c.Remove(context.Background(), Name(name), RemoveOptions{}); err != nil && !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		}
	})
	var made Info
	step("create", func() (err error) { made, err = c.Create(ctx, "bstest-wire", "BSTEST-wire"); return err })
	step("load", func() error {
		_, err := c.Load(ctx, Name("bstest-wire"), table, LoadOptions{ReadOnly: true})
		return err
	})
	step("resume", func() error { _, err := c.Resume(ctx, UUID("BSTEST-wire")); return err })
	step("suspend", func() error {
		_, err := c.Suspend(ctx, Dev(made.Dev), SuspendOptions{NoFlush: true, SkipLockFS: true})
		return err
	})
	step("resume-again", func() error { _, err := c.Resume(ctx, Name("bstest-wire")); return err })
	step("rename", func() error { return c.Rename(ctx, "bstest-wire", "bstest-wire2") })
	_, err := c.CreateLoaded(ctx, "bstest-other", "", NewTable(8, Linear{Device: made.Dev}), LoadOptions{ReadOnly: true})
	require.NoError(t, err)
	step("info", func() error { _, err := c.Info(ctx, Name("bstest-other")); return err })
	step("table", func() error { _, _, err := c.Table(ctx, Name("bstest-wire2"), TableOptions{}); return err })
	step("status", func() error {
		_, _, err := c.Status(ctx, Name("bstest-other"), StatusOptions{NoFlush: true})
		return err
	})
	step("deps", func() error { _, err := c.Deps(ctx, Name("bstest-other")); return err })
	step("list", func() error { _, err := c.List(ctx, Prefix{Name: "bstest-"}); return err })
	step("list-none", func() error { _, err := c.List(ctx, Prefix{Name: "bstest-none"}); return err })
	step("message", func() error { _, err := c.Message(ctx, Name("bstest-other"), 0, "@stats_create - /1"); return err })
	step("probe", func() error { _, err := c.ProbeTarget(ctx, "linear"); return err })
	step("remove-deferred", func() error { _, err := c.Remove(ctx, Name("bstest-wire2"), RemoveOptions{Deferred: true}); return err })
	step("remove", func() error { _, err := c.Remove(ctx, Name("bstest-other"), RemoveOptions{}); return err })
}

// TestKernelWire runs the script on the running kernel. With BLOCKSTORE_WIRE=DIR it records
// the goldens there.
func TestKernelWire(t *testing.T) {
	if os.Getenv("BLOCKSTORE_MACHINE") != "uml" {
		t.Skip("not User Mode Linux: the goldens have dm's first minor")
	}
	real, err := openControl(DefaultControlPath)
	require.NoError(t, err)
	r := &recorder{control: real, records: map[string][]byte{}}
	c, err := newClient(r, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	wireScript(t, c, func(name string) { r.label = name })
	dir := os.Getenv("BLOCKSTORE_WIRE")
	if dir == "" {
		return
	}
	for name, data := range r.records {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".hex"), []byte(hex.Dump(data)), 0o600))
	}
}

// TestWireRequests: the fake kernel sees byte for byte what the real one saw.
func TestWireRequests(t *testing.T) {
	kernel := newFake()
	r := &recorder{control: kernel, records: map[string][]byte{}}
	c, err := newClient(r, Options{})
	require.NoError(t, err)
	c.run = t.TempDir()
	wireScript(t, c, func(name string) { r.label = name })
	require.Len(t, r.order, 16)
	for _, name := range r.order {
		require.Equal(t, hex.Dump(wire(t, name+".request")), hex.Dump(r.records[name+".request"]), name)
	}
}

// TestWireReplies: what a real kernel answered is read as what it meant.
func TestWireReplies(t *testing.T) {
	_, lines, err := canned(t, "table").Table(t.Context(), Name("x"), TableOptions{})
	require.NoError(t, err)
	table, err := ParseTable(lines)
	require.NoError(t, err)
	require.Equal(t, NewTable(64, Zero{}).Append(32, ErrorTarget{}), table)
	info, err := canned(t, "info").Info(t.Context(), Name("x"))
	require.NoError(t, err)
	require.Equal(t, Info{Name: "bstest-other", Dev: Number{254, 1}, Targets: 1, HasActive: true, ReadOnly: true}, info)
	info, err = canned(t, "suspend").Suspend(t.Context(), Name("x"), SuspendOptions{})
	require.NoError(t, err)
	require.True(t, info.Suspended && info.ReadOnly && info.UUID == "BSTEST-wire" && info.Targets == 2)
	deps, err := canned(t, "deps").Deps(t.Context(), Name("x"))
	require.NoError(t, err)
	require.Equal(t, []Number{{254, 0}}, deps)
	devices, err := canned(t, "list").List(t.Context(), Prefix{})
	require.NoError(t, err)
	require.Len(t, devices, 2)
	require.Equal(t, Device{Name: "bstest-other", Dev: Number{254, 1}}, devices[0])
	require.Equal(t, "BSTEST-wire", devices[1].UUID)
	devices, err = canned(t, "list-none").List(t.Context(), Prefix{})
	require.NoError(t, err)
	require.Empty(t, devices)
	reply, err := canned(t, "message").Message(t.Context(), Name("x"), 0, "x")
	require.NoError(t, err)
	require.Equal(t, "0", reply)
	version, err := canned(t, "probe").ProbeTarget(t.Context(), "linear")
	require.NoError(t, err)
	require.Equal(t, Version{1, 4, 0}, version)
	deferred, err := canned(t, "remove-deferred").Remove(t.Context(), Name("x"), RemoveOptions{Deferred: true})
	require.NoError(t, err)
	require.True(t, deferred)
}

// canned is a client whose kernel gives one recorded reply.
func canned(t *testing.T, name string) *Client {
	t.Helper()
	c, err := newClient(newFake(), Options{})
	require.NoError(t, err)
	c.run = t.TempDir()
	c.control = cannedControl(wire(t, name+".reply"))
	return c
}

type cannedControl []byte

func (c cannedControl) ioctl(_ uint32, buffer *ioctl.DMBuffer) error {
	if len(buffer.Bytes()) < len(c) {
		return fmt.Errorf("reply of %d bytes for a buffer of %d", len(c), len(buffer.Bytes()))
	}
	clear(buffer.Bytes())
	copy(buffer.Bytes(), c)
	return nil
}

func (cannedControl) events() (poller, error) { return nil, errors.ErrUnsupported }
func (cannedControl) Close() error            { return nil }

// wire reads a golden.
func wire(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(wireDir, name+".hex"))
	require.NoError(t, err)
	var data []byte
	for line := range strings.Lines(string(text)) {
		columns := strings.TrimSpace(line[8:min(59, len(line))])
		row, err := hex.DecodeString(strings.ReplaceAll(columns, " ", ""))
		require.NoError(t, err)
		data = append(data, row...)
	}
	return data
}

// wireReplies are the payloads of all recorded replies.
func wireReplies(t testing.TB) [][]byte {
	t.Helper()
	names, err := filepath.Glob(wireDir + "/*.reply.hex")
	require.NoError(t, err)
	var replies [][]byte
	for _, name := range names {
		data := wire(t, strings.TrimSuffix(filepath.Base(name), ".hex"))
		replies = append(replies, data[min(ioctl.DMIoctlSize, len(data)):])
	}
	return replies
}
