package btrfsvol

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"blockstore.dev/blockstore/ioctl"
)

// QgroupID is a quota group: its level in the upper 16 bits. The group of level 0
// that has a subvolume's id is that subvolume's own; the others are made by hand and
// hold groups of lower levels.
type QgroupID uint64

// Qgroup puts a level and a number (48 bits) together.
func Qgroup(level uint16, number uint64) QgroupID {
	return QgroupID(uint64(level)<<48 | number&(1<<48-1))
}

// Level is 0 for a subvolume's own group.
func (q QgroupID) Level() uint16 { return uint16(q >> 48) }

// Number is the group's number within its level.
func (q QgroupID) Number() uint64 { return uint64(q) & (1<<48 - 1) }

// String is the form of btrfs-qgroup(8): "1/27".
func (q QgroupID) String() string { return fmt.Sprintf("%d/%d", q.Level(), q.Number()) }

// QuotaMode says how a file system counts.
type QuotaMode string

// The modes. Full quotas count every sharing exactly, which makes snapshots and
// deleting them slow; simple ones (Linux 6.7) charge each extent for its whole life
// to the subvolume that first wrote it.
const (
	QuotaOff    QuotaMode = "disabled"
	QuotaFull   QuotaMode = "qgroup"
	QuotaSimple QuotaMode = "squota"
)

// QuotaMode reads how the file system counts at present.
func (fs *FS) QuotaMode() (QuotaMode, error) {
	mode, err := readWord(fs.sysfs("qgroups", "mode"))
	switch {
	case err == nil:
		return parseQuotaMode(mode)
	case !errors.Is(err, os.ErrNotExist):
		return "", wrap(err, "read the quota mode")
	}
	// Before Linux 6.7 there is no such file, and no directory while they are off.
	if _, err := os.Stat(fs.sysfs("qgroups")); errors.Is(err, os.ErrNotExist) {
		return QuotaOff, nil
	}
	return QuotaFull, nil
}

func parseQuotaMode(text string) (QuotaMode, error) {
	switch mode := QuotaMode(text); mode {
	case QuotaOff, QuotaFull, QuotaSimple:
		return mode, nil
	}
	return "", fmt.Errorf("btrfs: quota mode: unknown value %q", text)
}

// QuotaInconsistent tells whether full quotas have lost count, which means that
// their limits do not act.
func (fs *FS) QuotaInconsistent() (bool, error) {
	word, err := readWord(fs.sysfs("qgroups", "inconsistent"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return word == "1", wrap(err, "read the state of quotas")
}

// SimpleQuotaSupported tells whether the kernel has simple quotas.
func (fs *FS) SimpleQuotaSupported() (bool, error) {
	supported, _, _, err := ioctl.BtrfsGetSupportedFeatures(fs.fd)
	return supported.IncompatFlags&ioctl.BTRFS_FEATURE_INCOMPAT_SIMPLE_QUOTA != 0, wrap(err, "read the kernel's features")
}

// EnableSimpleQuota switches simple quotas on, for good: kernels before 6.7 cannot
// mount the file system any more. Only what is written afterwards is counted, so it
// belongs right behind Format. Never call it on a file system that is not your own.
// ErrNotSupported when the kernel has none.
func (fs *FS) EnableSimpleQuota() error {
	if supported, err := fs.SimpleQuotaSupported(); err != nil {
		return err
	} else if !supported {
		return wrap(ErrNotSupported, "simple quotas (Linux 6.7)")
	}
	return wrap(ioctl.BtrfsQuotaCtl(fs.fd, ioctl.BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA), "enable simple quotas")
}

// CreateQgroup makes a quota group of level 1 or above.
func (fs *FS) CreateQgroup(q QgroupID) error {
	return wrap(ioctl.BtrfsQgroupCreate(fs.fd, true, uint64(q)), "create quota group %s", q)
}

// RemoveQgroup removes one. ErrBusy while it has members that are alive.
func (fs *FS) RemoveQgroup(q QgroupID) error {
	return wrap(ioctl.BtrfsQgroupCreate(fs.fd, false, uint64(q)), "remove quota group %s", q)
}

// LeaveQgroup takes member out of group.
func (fs *FS) LeaveQgroup(member, group QgroupID) error {
	return wrap(ioctl.BtrfsQgroupAssign(fs.fd, false, uint64(member), uint64(group)), "take %s out of quota group %s", member, group)
}

// NoLimit is LimitQgroup's argument that takes a limit away.
const NoLimit = Bytes(1<<64 - 1)

// LimitQgroup sets how many bytes the group may hold, metadata included. Writes
// beyond it fail with EDQUOT.
func (fs *FS) LimitQgroup(q QgroupID, limit Bytes) error {
	err := ioctl.BtrfsQgroupLimitSet(fs.fd, uint64(q), ioctl.BtrfsQgroupLimit{
		Flags:   ioctl.BTRFS_QGROUP_LIMIT_MAX_RFER,
		MaxRfer: uint64(limit), // all ones clears it
	})
	return wrap(err, "limit quota group %s", q)
}

// QgroupUsage is what a quota group holds.
type QgroupUsage struct {
	Referenced Bytes
	Exclusive  Bytes
	Limit      Bytes // of Referenced, NoLimit for none
}

// QgroupUsage reads what a group holds now, metadata included and without a commit.
func (fs *FS) QgroupUsage(q QgroupID) (QgroupUsage, error) {
	usage := QgroupUsage{Limit: NoLimit}
	dir := fmt.Sprintf("%d_%d", q.Level(), q.Number())
	var flags, limit uint64
	for _, f := range []struct {
		name string
		to   *uint64
	}{
		{"referenced", (*uint64)(&usage.Referenced)},
		{"exclusive", (*uint64)(&usage.Exclusive)},
		{"limit_flags", &flags},
		{"max_referenced", &limit},
	} {
		word, err := readWord(fs.sysfs("qgroups", dir, f.name))
		if err == nil {
			*f.to, err = strconv.ParseUint(word, 10, 64)
		}
		if err != nil {
			return usage, wrap(err, "read quota group %s", q)
		}
	}
	if flags&ioctl.BTRFS_QGROUP_LIMIT_MAX_RFER != 0 {
		usage.Limit = Bytes(limit)
	}
	return usage, nil
}

// Qgroups lists the quota groups of one level with their members, which are of any
// lower level. The list is empty while quotas are off.
func (fs *FS) Qgroups(level uint16) (map[QgroupID][]QgroupID, error) {
	groups := map[QgroupID][]QgroupID{}
	span := span{tree: ioctl.BTRFS_QUOTA_TREE_OBJECTID}
	span.to = key{1<<64 - 1, 0xff, 1<<64 - 1}
	err := fs.search(span, func(item ioctl.BtrfsSearchItem) error {
		switch item.Type {
		case ioctl.BTRFS_QGROUP_INFO_KEY:
			if q := QgroupID(item.Offset); q.Level() == level {
				groups[q] = append(groups[q], []QgroupID{}...)
			}
		case ioctl.BTRFS_QGROUP_RELATION_KEY:
			// Each relation is there twice, once from either side.
			group, member := QgroupID(item.Objectid), QgroupID(item.Offset)
			if group.Level() == level && member.Level() < level {
				groups[group] = append(groups[group], member)
			}
		}
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return groups, nil
	}
	return groups, err
}
