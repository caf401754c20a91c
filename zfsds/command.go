package zfsds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// commands is the way by zfs(8) and zpool(8).
type commands struct{}

func openCommands(ctx context.Context) (*commands, error) {
	c := &commands{}
	for _, name := range []string{"zfs", "zpool"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("zfs: %w: %s is not installed: install zfsutils-linux", ErrNotSupported, name)
		}
	}
	if _, err := os.Stat(devicePath); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("zfs: %w: install OpenZFS 2.0 or later and load it (modprobe zfs)", errNoModule)
	}
	_, err := c.pools(ctx)
	return c, err
}

// Close has nothing to give up.
func (*commands) Close() error { return nil }

// run runs a command and gives its output.
func run(ctx context.Context, name string, arguments ...string) (string, error) {
	var out bytes.Buffer
	err := runWith(ctx, nil, &out, name, arguments...)
	return out.String(), err
}

// mostOutput bounds what is kept of a command's complaints.
const mostComplaint = 4 << 10

// runWith runs a command with input and output of the caller's.
func runWith(ctx context.Context, in io.Reader, out io.Writer, name string, arguments ...string) error {
	command := exec.CommandContext(ctx, name, arguments...)
	command.Env = append(os.Environ(), "LC_ALL=C", "LANG=C")
	kept := &keeping{Writer: out}
	command.Stdin, command.Stdout = in, kept
	var stderr bytes.Buffer
	command.Stderr = &stderr
	err := command.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if kept.err != nil { // the command only says that nobody listened
		return kept.err
	}
	said := strings.Join(strings.Fields(stderr.String()), " ")
	said = said[:min(len(said), mostComplaint)]
	if sentinel := meaning(said); sentinel != nil {
		return fmt.Errorf("%w: %s (%w)", sentinel, said, err)
	}
	return fmt.Errorf("%s: %w: %s", name, err, said)
}

// keeping keeps a writer's first error.
type keeping struct {
	io.Writer
	err error
}

func (k *keeping) Write(b []byte) (int, error) {
	n, err := k.Writer.Write(b)
	if k.err == nil {
		k.err = err
	}
	return n, err
}

// meaning is what a command's complaint says. It is the only source there is: the exit
// status is 1 for all. The texts are those of libzfs_util.c and libzfs_dataset.c in the C
// locale, in 2.0 to 2.4; the more special ones come first.
func meaning(said string) error {
	for _, row := range []struct {
		text string
		err  error
	}{
		{"has children", ErrDependents},
		{"has dependent clones", ErrDependents},
		{"dataset has dependent clones", ErrDependents},
		{"snapshot has dependent clones", ErrDependents},
		{"more recent snapshots or bookmarks exist", ErrDependents},
		{"key must be loaded", ErrNoKey},
		{"Key must be loaded", ErrNoKey},
		{"encryption key not loaded", ErrNoKey},
		{"does not exist", ErrNotFound},
		{"no such pool", ErrNotFound},
		{"no such tag on this dataset", ErrNotFound},
		{"could not find any snapshots to destroy", ErrNotFound},
		{"tag already exists", ErrExists},
		{"already exists", ErrExists},
		{"snapshot name", ErrExists}, // promote: conflicting snapshot name
		{"conflicting snapshot", ErrExists},
		{"exists must specify -F", ErrExists},
		{"is busy", ErrBusy},
		{"being held", ErrBusy},
		{"in use", ErrBusy},
		{"out of space", ErrNoSpace},
		{"quota exceeded", ErrNoSpace},
		{"size is greater than available space", ErrNoSpace},
		{"is read-only", ErrReadOnly},
		{"is readonly", ErrReadOnly},
		{"invalid property", ErrInvalid},
		{"bad property", ErrInvalid},
		{"must be", ErrInvalid},
		{"bad numeric value", ErrInvalid},
		{"not an ancestor", ErrInvalid},
		{"not an earlier snapshot", ErrInvalid},
		{"invalid backup stream", ErrInvalid},
		{"invalid stream", ErrInvalid},
		{"does not match incremental source", ErrInvalid},
		{"ZFS modules", ErrNotSupported},
		{"not supported", ErrNotSupported},
	} {
		if strings.Contains(said, row.text) {
			return row.err
		}
	}
	return nil
}

// options gives properties as options -o name=value, in an order that does not change.
func (p Properties) options() []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		all = append(all, "-o", name+"="+p[name])
	}
	return all
}

func zfs(ctx context.Context, arguments ...string) error {
	_, err := run(ctx, "zfs", arguments...)
	return err
}

func (*commands) create(ctx context.Context, name string, p Properties) error {
	return zfs(ctx, slices.Concat([]string{"create", "-u"}, p.options(), []string{name})...)
}

func (*commands) clone(ctx context.Context, snapshot, name string, p Properties) error {
	return zfs(ctx, slices.Concat([]string{"clone"}, p.options(), []string{snapshot, name})...)
}

func (*commands) snapshot(ctx context.Context, names []string, p Properties) error {
	return zfs(ctx, slices.Concat([]string{"snapshot"}, p.options(), names)...)
}

// destroy asks first whether it is mounted: the command would unmount it.
func (*commands) destroy(ctx context.Context, name string) error {
	mounted, err := run(ctx, "zfs", "get", "-H", "-o", "value", "mounted", name)
	if err != nil {
		return err
	}
	if strings.TrimSpace(mounted) == "yes" {
		return fmt.Errorf("%w: it is mounted", ErrBusy)
	}
	return zfs(ctx, "destroy", name)
}

// destroySnapshots tells the command the snapshots of one dataset at a time, as it wants them.
func (*commands) destroySnapshots(ctx context.Context, names []string, deferred bool) error {
	arguments := []string{"destroy"}
	if deferred {
		arguments = append(arguments, "-d")
	}
	of := map[string][]string{}
	for _, name := range names {
		dataset, snapshot, _ := strings.Cut(name, "@")
		of[dataset] = append(of[dataset], snapshot)
	}
	for _, dataset := range slices.Sorted(maps.Keys(of)) {
		err := zfs(ctx, append(arguments[:len(arguments):len(arguments)], dataset+"@"+strings.Join(of[dataset], ","))...)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

func (*commands) rename(ctx context.Context, from, to string) error {
	if strings.Contains(from, "@") {
		return zfs(ctx, "rename", from, to)
	}
	return zfs(ctx, "rename", "-u", from, to)
}

func (*commands) promote(ctx context.Context, name string) error { return zfs(ctx, "promote", name) }

func (*commands) rollback(ctx context.Context, snapshot string) error {
	return zfs(ctx, "rollback", snapshot)
}

func (*commands) set(ctx context.Context, name string, p Properties) error {
	arguments := []string{"set"}
	for _, property := range slices.Sorted(maps.Keys(p)) {
		arguments = append(arguments, property+"="+p[property])
	}
	return zfs(ctx, append(arguments, name)...)
}

func (*commands) inherit(ctx context.Context, name, property string) error {
	return zfs(ctx, "inherit", property, name)
}

func (*commands) hold(ctx context.Context, snapshot, tag string) error {
	return zfs(ctx, "hold", tag, snapshot)
}

func (*commands) release(ctx context.Context, snapshot, tag string) error {
	return zfs(ctx, "release", tag, snapshot)
}

func (*commands) sync(ctx context.Context, pool string) error {
	_, err := run(ctx, "zpool", "sync", pool)
	return err
}

// compare: zfs diff wants everything mounted, and leaves out names of files with several.
func (*commands) compare(context.Context, string, string, func(Change) bool) error {
	return errCompareCommand
}

func (*commands) rewritten(context.Context, string, string, func(Objects) bool) error {
	return errCompareCommand
}

var errCompareCommand = fmt.Errorf("%w: comparing snapshots by command (%w)", ErrNotSupported, unix.ENOSYS)
