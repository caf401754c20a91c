package ioctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freddierice/go-losetup/v2"
	"golang.org/x/sys/unix"
)

// Loop devices: Linux, Documentation/admin-guide/devices.txt (major 7) and include/uapi/linux/loop.h.
//
// go-losetup reads and changes what a loop device says about itself (GetInfo, SetInfo) and detaches it. What it
// lacks is here: LOOP_CONFIGURE, which sets file, offset, block size and flags in one step (Linux 5.8), direct
// I/O, capacity, and finding the device that already backs a file.

// ErrLoopNotFound says that no loop device is backed by the file.
var ErrLoopNotFound = errors.New("no loop device is backed by this file")

const (
	loopControl = losetup.LoopControlPath
	loopSysfs   = "/sys/block"

	// Everybody on the host takes free loop devices from one queue, so that the number that LOOP_CTL_GET_FREE
	// gave may be taken before LOOP_CONFIGURE: EBUSY then means "ask again". The bound is far above what 64
	// concurrent users need.
	loopTries    = 200
	loopMaxPause = 20 * time.Millisecond
)

// LoopOptions says how AttachLoop attaches a file. The zero value is a read-write device over the whole file, with
// direct I/O where the file's file system has it, that stays until it is detached.
type LoopOptions struct {
	// ReadOnly makes the device refuse writes; the file is opened read-only.
	ReadOnly bool
	// AutoClear lets the kernel detach the device at its last close, so that a process that dies leaves none
	// behind. The Loop that AttachLoop returns holds the device open: keep it until the next holder (a mount, a
	// device-mapper table) has opened the device, then Close it.
	AutoClear bool
	// Buffered goes through the page cache even where direct I/O is possible.
	Buffered bool
	// BlockSize is the logical block size in bytes, 0 for the kernel's choice.
	BlockSize uint32
	// Offset and SizeLimit, in bytes, choose a part of the file; a SizeLimit of 0 goes to the end.
	Offset, SizeLimit uint64
}

// Loop is an attached loop device, held open. It is not safe for concurrent use.
type Loop struct {
	number int
	file   *os.File
	flags  int
}

// AttachLoop attaches the file at path to a free loop device. Where direct I/O is refused (tmpfs, a smaller block
// size than the disk's) it falls back to buffered: DirectIO tells. It waits for a free device no longer than ctx.
func AttachLoop(ctx context.Context, path string, o LoopOptions) (*Loop, error) {
	flags := os.O_RDWR
	if o.ReadOnly {
		flags = os.O_RDONLY
	}
	back, err := os.OpenFile(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("attaching loop device: %w", err)
	}
	defer back.Close()
	for try := 0; ; try++ {
		l, err := tryAttach(back, o, flags)
		if err == nil {
			return l, nil
		}
		// ENXIO and ENOENT: the device went away (LOOP_CTL_REMOVE) or its node is not there yet.
		again := errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrNotExist)
		if !again || try >= loopTries {
			return nil, fmt.Errorf("attaching %s to a loop device: %w", path, err)
		}
		pause := time.NewTimer(rand.N(loopMaxPause))
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil, fmt.Errorf("attaching %s to a loop device: %w", path, context.Cause(ctx))
		case <-pause.C:
		}
	}
}

func tryAttach(back *os.File, o LoopOptions, flags int) (*Loop, error) {
	number, err := freeLoop()
	if err != nil {
		return nil, err
	}
	l, err := openLoop(number, flags)
	if err != nil {
		return nil, err
	}
	if err := l.configure(back, o); err != nil {
		l.file.Close()
		return nil, err
	}
	return l, nil
}

// freeLoop asks for the lowest free loop number; the kernel makes a device when there is none.
func freeLoop() (int, error) {
	ctl, err := os.OpenFile(loopControl, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("opening loop control (is the loop module loaded?): %w", err)
	}
	defer ctl.Close()
	// losetup.GetFree tests an unsigned number for < 0 and so never reports a failure.
	n, err := unix.IoctlRetInt(int(ctl.Fd()), losetup.CtlGetFree)
	if err != nil {
		return 0, fmt.Errorf("asking for a free loop device: %w", err)
	}
	return n, nil
}

func openLoop(number, flags int) (*Loop, error) {
	f, err := os.OpenFile(loopPath(number), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening loop device: %w", err)
	}
	return &Loop{number: number, file: f, flags: flags}, nil
}

func (l *Loop) configure(back *os.File, o LoopOptions) error {
	c := unix.LoopConfig{Fd: uint32(back.Fd()), Size: o.BlockSize}
	c.Info.Offset, c.Info.Sizelimit = o.Offset, o.SizeLimit
	copy(c.Info.File_name[:losetup.NameSize-1], back.Name())
	if o.ReadOnly {
		c.Info.Flags |= losetup.FlagsReadOnly
	}
	if o.AutoClear {
		c.Info.Flags |= losetup.FlagsAutoClear
	}
	if !o.Buffered {
		c.Info.Flags |= losetup.FlagsDirectIO
	}
	err := unix.IoctlLoopConfigure(int(l.file.Fd()), &c)
	if errors.Is(err, unix.EINVAL) && !o.Buffered {
		// Newer kernels refuse direct I/O where the file has none, older ones go on without it silently.
		c.Info.Flags &^= losetup.FlagsDirectIO
		err = unix.IoctlLoopConfigure(int(l.file.Fd()), &c)
	}
	if err != nil {
		return fmt.Errorf("configuring loop device %d: %w", l.number, err)
	}
	if o.ReadOnly {
		return nil
	}
	// A read-only flag that somebody set by BLKROSET outlives detaching, and the next user's writes give EPERM.
	if err := SetBlockReadOnly(l.file, false); err != nil {
		return errors.Join(err, losetup.New(uint64(l.number), l.flags).Detach())
	}
	return nil
}

// FindLoop opens the loop device that is backed by the file at path, by the file's device and inode and so whatever
// name it was attached by. It gives ErrLoopNotFound when there is none; with several, the lowest number.
func FindLoop(path string) (*Loop, error) {
	numbers, err := LoopsOf(path)
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%s: %w", path, ErrLoopNotFound)
	}
	return OpenLoop(numbers[0])
}

// LoopsOf lists the numbers of the loop devices that are backed by the file at path, in ascending order.
func LoopsOf(path string) ([]int, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, fmt.Errorf("looking for the loop device of %s: %w", path, err)
	}
	all, err := attachedLoops()
	if err != nil {
		return nil, err
	}
	var found []int
	for _, n := range all {
		info, err := losetup.New(uint64(n), os.O_RDONLY).GetInfo()
		if err != nil {
			continue // detached in the meantime
		}
		if info.Device == uint64(st.Dev) && info.INode == st.Ino {
			found = append(found, n)
		}
	}
	return found, nil
}

// attachedLoops lists the loop devices that have a file: the kernel shows /sys/block/loopN/loop only then.
func attachedLoops() ([]int, error) {
	devices, err := os.ReadDir(loopSysfs)
	if err != nil {
		return nil, fmt.Errorf("listing loop devices: %w", err)
	}
	var all []int
	for _, d := range devices {
		digits, loop := strings.CutPrefix(d.Name(), "loop")
		n, err := strconv.Atoi(digits)
		if !loop || err != nil {
			continue
		}
		if err := unix.Access(filepath.Join(loopSysfs, d.Name(), "loop"), unix.F_OK); err == nil {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

// OpenLoop opens an attached loop device by its number: read-only if the device is, else read-write.
func OpenLoop(number int) (*Loop, error) {
	info, err := losetup.New(uint64(number), os.O_RDONLY).GetInfo()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", loopPath(number), ErrLoopNotFound, err)
	}
	flags := os.O_RDWR
	if info.Flags&losetup.FlagsReadOnly != 0 {
		flags = os.O_RDONLY
	}
	return openLoop(number, flags)
}

// Number is N of /dev/loopN.
func (l *Loop) Number() int { return l.number }

// Path is the device's node.
func (l *Loop) Path() string { return loopPath(l.number) }

// File is the open device, owned by l.
func (l *Loop) File() *os.File { return l.file }

// Close gives up this hold on the device. With AutoClear it detaches when nobody else holds it.
func (l *Loop) Close() error { return l.file.Close() }

// Detach closes and detaches the device: at once, or at its last close while others hold it open too.
func (l *Loop) Detach() error {
	// While this hold lasts the kernel only marks the device; without it an AutoClear device might be gone already,
	// and its number somebody else's.
	err := losetup.New(uint64(l.number), l.flags).Detach()
	if err != nil {
		err = fmt.Errorf("detaching %s: %w", l.Path(), err)
	}
	return errors.Join(err, l.file.Close())
}

// Info reads the device's state; File_name is cut at 64 bytes, BackingFile is not.
func (l *Loop) Info() (losetup.Info, error) {
	info, err := losetup.New(uint64(l.number), l.flags).GetInfo()
	if err != nil {
		return info, fmt.Errorf("reading state of %s: %w", l.Path(), err)
	}
	return info, nil
}

// SetAutoClear sets or clears AutoClear on an attached device.
func (l *Loop) SetAutoClear(on bool) error {
	dev := losetup.New(uint64(l.number), l.flags)
	info, err := dev.GetInfo()
	if err != nil {
		return fmt.Errorf("reading state of %s: %w", l.Path(), err)
	}
	info.Flags &^= losetup.FlagsAutoClear
	if on {
		info.Flags |= losetup.FlagsAutoClear
	}
	if err := dev.SetInfo(info); err != nil {
		return fmt.Errorf("setting autoclear of %s: %w", l.Path(), err)
	}
	return nil
}

// BackingFile is the path that the kernel knows the file by, without the mark that it adds to a deleted file.
func (l *Loop) BackingFile() (string, error) {
	s, err := l.attr("backing_file")
	return strings.TrimSuffix(s, " (deleted)"), err
}

// DirectIO reports whether the device goes past the page cache. The kernel may refuse it silently: this is the truth.
func (l *Loop) DirectIO() (bool, error) {
	s, err := l.attr("dio")
	return s == "1", err
}

// SetDirectIO asks for direct I/O on or off and reads back what came of it.
func (l *Loop) SetDirectIO(on bool) (bool, error) {
	arg := 0
	if on {
		arg = 1
	}
	err := unix.IoctlSetInt(int(l.file.Fd()), losetup.SetDirectIO, arg)
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return false, fmt.Errorf("setting direct I/O of %s: %w", l.Path(), err)
	}
	return l.DirectIO()
}

// Refresh makes the device as large as its file has become (LOOP_SET_CAPACITY).
func (l *Loop) Refresh() error {
	if err := unix.IoctlSetInt(int(l.file.Fd()), losetup.SetCapacity, 0); err != nil {
		return fmt.Errorf("setting capacity of %s: %w", l.Path(), err)
	}
	return nil
}

func (l *Loop) attr(name string) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("%s/loop%d/loop/%s", loopSysfs, l.number, name))
	if err != nil {
		return "", fmt.Errorf("reading %s of %s: %w", name, l.Path(), err)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

func loopPath(number int) string { return fmt.Sprintf(losetup.DeviceFormatString, number) }
