package dm

import (
	"encoding/binary"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"blockstore.dev/blockstore/ioctl"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// fakeKernel stands behind the client's seam: a model of dm-ioctl.c that answers requests
// in wire bytes and that tests make fail or truncate.
type fakeKernel struct {
	mu      sync.Mutex
	version [3]uint32
	devices []*fakeDevice
	minor   uint32
	targets map[string][3]uint32
	// fails answers the next calls of a command, in turn; nil lets one through.
	fails map[uint32][]error
	// reply is the text of the next message's answer; status the params of all targets.
	reply, status string
	// noListTail omits event numbers and uuids from the list, noUUIDs the uuids' flags.
	noListTail, noUUIDs bool
	calls               []string
	last                []byte // the last request's bytes
	event               int
	wake                chan struct{}
	closed              bool
}

type fakeDevice struct {
	name, uuid       string
	minor            uint32
	active, inactive []fakeRow
	suspended, busy  bool
	deferred, ro     bool
	event            uint32
}

type fakeRow struct {
	spec   ioctl.DMTargetSpec
	params string
}

const fakeMajor = 254

func newFake() *fakeKernel {
	return &fakeKernel{
		version: [3]uint32{4, 48, 0}, fails: map[uint32][]error{}, wake: make(chan struct{}),
		targets: map[string][3]uint32{"linear": {1, 4, 0}, "thin-pool": {1, 23, 0}, "thin": {1, 23, 0}},
	}
}

// fakeClient is a client of a fake kernel and its log of commands.
func fakeClient(t *testing.T, options Options) (*Client, *fakeKernel) {
	t.Helper()
	kernel := newFake()
	c, err := newClient(kernel, options)
	require.NoError(t, err)
	c.run, c.sys, c.proc, c.dev = t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	kernel.calls = nil
	return c, kernel
}

func (k *fakeKernel) Close() error { k.closed = true; return nil }

func (k *fakeKernel) ioctl(command uint32, buffer *ioctl.DMBuffer) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.answer(command, buffer)
}

func (k *fakeKernel) answer(command uint32, buffer *ioctl.DMBuffer) error {
	h := buffer.Header()
	k.calls = append(k.calls, commandName(command))
	k.last = append([]byte(nil), buffer.Bytes()...)
	asked := h.Version
	h.Version = k.version
	if asked[0] != k.version[0] || asked[1] > k.version[1] {
		return unix.EINVAL
	}
	if int(h.DataSize) != len(buffer.Bytes()) || int(h.DataStart) < ioctl.DMIoctlSize {
		return unix.EINVAL
	}
	if queue := k.fails[command]; len(queue) > 0 {
		k.fails[command] = queue[1:]
		if queue[0] != nil {
			return queue[0]
		}
	}
	return k.dispatch(command, buffer)
}

func (k *fakeKernel) dispatch(command uint32, b *ioctl.DMBuffer) error {
	h := b.Header()
	switch command {
	case ioctl.DM_VERSION_CMD, ioctl.DM_DEV_ARM_POLL_CMD:
		return nil
	case ioctl.DM_LIST_DEVICES_CMD:
		return k.put(b, k.list(ioctl.CString(h.Name[:]), ioctl.CString(h.UUID[:])))
	case ioctl.DM_LIST_VERSIONS_CMD:
		return k.put(b, k.versions(""))
	case ioctl.DM_GET_TARGET_VERSION_CMD:
		reply := k.versions(ioctl.CString(h.Name[:]))
		if reply == nil {
			return unix.EINVAL
		}
		return k.put(b, reply)
	case ioctl.DM_DEV_CREATE_CMD:
		return k.create(h)
	}
	d := k.find(h)
	if d == nil {
		return unix.ENXIO
	}
	return k.onDevice(command, d, b)
}

func (k *fakeKernel) onDevice(command uint32, d *fakeDevice, b *ioctl.DMBuffer) error {
	h := b.Header()
	switch command {
	case ioctl.DM_DEV_REMOVE_CMD:
		return k.remove(d, h)
	case ioctl.DM_DEV_RENAME_CMD:
		return k.rename(d, h, ioctl.CString(b.Payload()))
	case ioctl.DM_DEV_SUSPEND_CMD:
		k.suspend(d, h)
	case ioctl.DM_TABLE_LOAD_CMD:
		d.inactive = decodeFakeTable(b.Payload(), int(h.TargetCount))
		d.ro = h.Flags&ioctl.DM_READONLY_FLAG != 0
	case ioctl.DM_TABLE_CLEAR_CMD:
		d.inactive = nil
	case ioctl.DM_TABLE_DEPS_CMD:
		k.fill(d, h)
		deps, _ := binary.Append(nil, binary.NativeEndian, ioctl.DMTargetDeps{Count: 2})
		deps = binary.NativeEndian.AppendUint64(deps, Number{Major: 7, Minor: 1}.Dev())
		return k.put(b, binary.NativeEndian.AppendUint64(deps, Number{Major: 8, Minor: 300}.Dev()))
	case ioctl.DM_TABLE_STATUS_CMD:
		flags := h.Flags
		k.fill(d, h)
		return k.put(b, k.tableStatus(d, h, flags))
	case ioctl.DM_TARGET_MSG_CMD:
		k.fill(d, h)
		if k.reply != "" {
			h.Flags |= ioctl.DM_DATA_OUT_FLAG
			return k.put(b, append([]byte(k.reply), 0))
		}
		return nil
	}
	k.fill(d, h)
	return nil
}

// put writes a reply's payload or says that it does not fit.
func (k *fakeKernel) put(b *ioctl.DMBuffer, payload []byte) error {
	h := b.Header()
	h.DataStart = uint32(ioctl.DMIoctlSize)
	if room := len(b.Payload()); len(payload) > room {
		h.Flags |= ioctl.DM_BUFFER_FULL_FLAG
		return nil
	}
	clear(b.Payload())
	copy(b.Payload(), payload)
	h.DataSize = uint32(ioctl.DMIoctlSize + len(payload))
	return nil
}

func (k *fakeKernel) find(h *ioctl.DMIoctl) *fakeDevice {
	name, uuid, dev := ioctl.CString(h.Name[:]), ioctl.CString(h.UUID[:]), NumberOf(h.Dev)
	for _, d := range k.devices {
		if name != "" && d.name == name || uuid != "" && d.uuid == uuid || dev == (Number{fakeMajor, d.minor}) && h.Dev != 0 {
			return d
		}
	}
	return nil
}

func (k *fakeKernel) create(h *ioctl.DMIoctl) error {
	name, uuid := ioctl.CString(h.Name[:]), ioctl.CString(h.UUID[:])
	for _, d := range k.devices {
		if d.name == name || uuid != "" && d.uuid == uuid {
			return unix.EBUSY
		}
	}
	d := &fakeDevice{name: name, uuid: uuid, minor: k.minor}
	k.minor++
	k.devices = append(k.devices, d)
	k.raise()
	k.fill(d, h)
	return nil
}

func (k *fakeKernel) remove(d *fakeDevice, h *ioctl.DMIoctl) error {
	if d.busy {
		if h.Flags&ioctl.DM_DEFERRED_REMOVE == 0 {
			return unix.EBUSY
		}
		d.deferred = true
		return nil
	}
	h.Flags &^= ioctl.DM_DEFERRED_REMOVE
	h.Flags |= ioctl.DM_UEVENT_GENERATED_FLAG
	k.drop(d)
	return nil
}

func (k *fakeKernel) drop(d *fakeDevice) {
	for i := range k.devices {
		if k.devices[i] == d {
			k.devices = append(k.devices[:i:i], k.devices[i+1:]...)
			break
		}
	}
	k.raise()
}

func (k *fakeKernel) rename(d *fakeDevice, h *ioctl.DMIoctl, text string) error {
	if ioctl.CString(h.Name[:]) == "" {
		return unix.EINVAL
	}
	for _, other := range k.devices {
		if h.Flags&ioctl.DM_UUID_FLAG == 0 && other.name == text || h.Flags&ioctl.DM_UUID_FLAG != 0 && other.uuid == text {
			return unix.EBUSY
		}
	}
	if h.Flags&ioctl.DM_UUID_FLAG != 0 {
		if d.uuid != "" {
			return unix.EINVAL
		}
		d.uuid = text
	} else {
		d.name = text
	}
	k.raise()
	k.fill(d, h)
	return nil
}

func (k *fakeKernel) suspend(d *fakeDevice, h *ioctl.DMIoctl) {
	if d.suspended = h.Flags&ioctl.DM_SUSPEND_FLAG != 0; !d.suspended && d.inactive != nil {
		d.active, d.inactive = d.inactive, nil
	}
}

// fill is __dev_status.
func (k *fakeKernel) fill(d *fakeDevice, h *ioctl.DMIoctl) {
	h.Flags = 0
	for flag, on := range map[uint32]bool{
		ioctl.DM_SUSPEND_FLAG: d.suspended, ioctl.DM_ACTIVE_PRESENT_FLAG: d.active != nil,
		ioctl.DM_INACTIVE_PRESENT_FLAG: d.inactive != nil, ioctl.DM_READONLY_FLAG: d.ro && d.active != nil,
		ioctl.DM_DEFERRED_REMOVE: d.deferred,
	} {
		if on {
			h.Flags |= flag
		}
	}
	h.Name, h.UUID = [ioctl.DM_NAME_LEN]byte{}, [ioctl.DM_UUID_LEN]byte{}
	copy(h.Name[:], d.name)
	copy(h.UUID[:], d.uuid)
	h.Dev = Number{fakeMajor, d.minor}.Dev()
	h.EventNr, h.TargetCount, h.OpenCount = d.event, uint32(len(d.active)), 0
	if d.busy {
		h.OpenCount = 1
	}
}

func (k *fakeKernel) tableStatus(d *fakeDevice, h *ioctl.DMIoctl, flags uint32) []byte {
	rows := d.active
	if flags&ioctl.DM_QUERY_INACTIVE_TABLE_FLAG != 0 {
		rows = d.inactive
	}
	h.TargetCount = uint32(len(rows))
	var payload []byte
	for _, row := range rows {
		params := k.status
		if flags&ioctl.DM_STATUS_TABLE_FLAG != 0 {
			params = row.params
		}
		end := align8(len(payload) + ioctl.DMTargetSpecSize + len(params) + 1)
		row.spec.Next = uint32(end) // relative to the first spec, unlike in a load
		payload, _ = binary.Append(payload, binary.NativeEndian, row.spec)
		payload = append(payload, params...)
		payload = append(payload, make([]byte, end-len(payload))...)
	}
	return payload
}

func (k *fakeKernel) list(namePrefix, uuidPrefix string) []byte {
	var payload []byte
	last := 0
	for _, d := range k.devices {
		if k.version[1] >= 45 && !(strings.HasPrefix(d.name, namePrefix) && strings.HasPrefix(d.uuid, uuidPrefix)) {
			continue
		}
		if len(payload) > 0 {
			binary.NativeEndian.PutUint32(payload[last+8:], uint32(len(payload)-last))
		}
		last = len(payload)
		payload = binary.NativeEndian.AppendUint64(payload, Number{fakeMajor, d.minor}.Dev())
		payload = append(binary.NativeEndian.AppendUint32(payload, 0), d.name+"\x00"...)
		payload = pad8(payload)
		payload = k.listTail(payload, d)
	}
	if payload == nil {
		return make([]byte, 16)
	}
	return payload
}

func (k *fakeKernel) listTail(payload []byte, d *fakeDevice) []byte {
	if k.noListTail {
		return payload
	}
	payload = binary.NativeEndian.AppendUint32(payload, d.event)
	switch {
	case k.noUUIDs:
		return pad8(payload)
	case d.uuid == "":
		return pad8(binary.NativeEndian.AppendUint32(payload, ioctl.DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID))
	}
	payload = binary.NativeEndian.AppendUint32(payload, ioctl.DM_NAME_LIST_FLAG_HAS_UUID)
	return pad8(append(payload, d.uuid+"\x00"...))
}

func (k *fakeKernel) versions(only string) []byte {
	var payload []byte
	last := -1
	for name, version := range k.targets {
		if only != "" && name != only {
			continue
		}
		if last >= 0 {
			binary.NativeEndian.PutUint32(payload[last:], uint32(len(payload)-last))
		}
		last = len(payload)
		payload, _ = binary.Append(payload, binary.NativeEndian, ioctl.DMTargetVersions{Version: version})
		payload = pad8(append(payload, name+"\x00"...))
	}
	return payload
}

func decodeFakeTable(data []byte, count int) []fakeRow {
	var rows []fakeRow
	for range count {
		var row fakeRow
		if _, err := binary.Decode(data, binary.NativeEndian, &row.spec); err != nil {
			panic(err)
		}
		row.params = ioctl.CString(data[ioctl.DMTargetSpecSize:])
		rows = append(rows, row)
		data = data[row.spec.Next:] // relative to this spec
	}
	return rows
}

func pad8(b []byte) []byte { return append(b, make([]byte, align8(len(b))-len(b))...) }

// raise is a global event: it wakes every poller that has armed before it.
func (k *fakeKernel) raise() {
	k.event++
	close(k.wake)
	k.wake = make(chan struct{})
}

// targetEvent is an event that a device's target raises.
func (k *fakeKernel) targetEvent(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range k.devices {
		if d.name == name {
			d.event++
		}
	}
	k.raise()
}

func (k *fakeKernel) events() (poller, error) {
	return &fakePoller{kernel: k, changed: make(chan struct{}, 1), closed: make(chan struct{})}, nil
}

// fakePoller is the poller of a fake kernel.
type fakePoller struct {
	kernel   *fakeKernel
	mu       sync.Mutex
	deadline time.Time
	changed  chan struct{}
	closed   chan struct{}
	once     sync.Once
}

func (p *fakePoller) wait(step func(arm func(*ioctl.DMBuffer) error) bool) error {
	for {
		var woken chan struct{}
		done := step(func(b *ioctl.DMBuffer) error {
			p.kernel.mu.Lock()
			defer p.kernel.mu.Unlock()
			woken = p.kernel.wake
			return p.kernel.answer(ioctl.DM_DEV_ARM_POLL_CMD, b)
		})
		if done {
			return nil
		}
		if err := p.block(woken); err != nil {
			return err
		}
	}
}

func (p *fakePoller) block(woken chan struct{}) error {
	for {
		p.mu.Lock()
		expired := !p.deadline.IsZero() && time.Now().After(p.deadline)
		p.mu.Unlock()
		if expired {
			return os.ErrDeadlineExceeded
		}
		select {
		case <-woken:
			return nil
		case <-p.changed:
		case <-p.closed:
			return os.ErrClosed
		}
	}
}

func (p *fakePoller) setDeadline(t time.Time) error {
	p.mu.Lock()
	p.deadline = t
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return nil
}

func (p *fakePoller) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}
