package zfsds

import (
	"fmt"
	"strconv"
	"strings"

	"blockstore.dev/blockstore/zfsds/nvlist"
)

// Properties are values to set, in zfs(8)'s names and words, with sizes in plain bytes:
// {"mountpoint": "legacy", "compression": "lz4", "refquota": "1073741824", "org.example:id": "7"}.
// Native properties that this package does not know are ErrNotSupported by Ioctl.
type Properties map[string]string

// maxUserValue is ZAP_MAXVALUELEN without the NUL.
const maxUserValue = 8191

func (p Properties) check() error {
	for name, value := range p {
		if err := checkProperty(name); err != nil {
			return err
		}
		if len(value) > maxUserValue || strings.ContainsAny(value, "\x00\n") {
			return fmt.Errorf("zfs: %w: the value of property %s is too long, or has a NUL or a line end in it", ErrInvalid, name)
		}
	}
	return nil
}

// checkProperty accepts names as zfsprops(7), "User Properties", has them.
func checkProperty(name string) error {
	ok := name != "" && len(name) <= 255 && name[0] != '-'
	for _, c := range name {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune(":-._", c))
	}
	if !ok {
		return fmt.Errorf("zfs: %w: %.300q is no name of a property", ErrInvalid, name)
	}
	return nil
}

func isUser(property string) bool { return strings.Contains(property, ":") }

// list is the properties as the kernel takes them: it reads no text but of string
// properties.
func (p Properties) list() (*nvlist.List, error) {
	l := &nvlist.List{}
	for name, value := range p {
		v, err := kernelValue(name, value)
		if err != nil {
			return nil, err
		}
		l.Set(name, v)
	}
	return l, nil
}

var (
	onOff = map[string]uint64{"off": 0, "on": 1}
	sizes = map[string]uint64{"none": 0}
)

// native are the properties that can be set by Ioctl, with the words that stand for
// numbers: include/sys/fs/zfs.h and module/zcommon/zfs_prop.c. Where numbers are taken, too,
// is told by numeric.
var native = map[string]map[string]uint64{
	"atime": onOff, "relatime": onOff, "devices": onOff, "exec": onOff, "setuid": onOff, "readonly": onOff,
	"canmount":    {"off": 0, "on": 1, "noauto": 2},
	"snapdir":     {"hidden": 0, "visible": 1},
	"xattr":       {"off": 0, "dir": 1, "sa": 2}, // what "on" means depends on the release
	"acltype":     {"off": 0, "noacl": 0, "posix": 1, "posixacl": 1},
	"dnodesize":   {"legacy": 0, "auto": 1, "1k": 1 << 10, "2k": 2 << 10, "4k": 4 << 10, "8k": 8 << 10, "16k": 16 << 10},
	"sync":        {"standard": 0, "always": 1, "disabled": 2},
	"compression": {"on": 1, "off": 2, "lzjb": 3, "zle": 14, "lz4": 15, "zstd": 16},
	"recordsize":  {}, "copies": {},
	"quota": sizes, "refquota": sizes, "reservation": sizes, "refreservation": sizes,
}

func numeric(name string) bool {
	switch name {
	case "recordsize", "copies", "quota", "refquota", "reservation", "refreservation":
		return true
	}
	return false
}

func kernelValue(name, value string) (any, error) {
	if isUser(name) || name == "mountpoint" {
		return value, nil
	}
	words, known := native[name]
	if !known {
		return nil, fmt.Errorf("zfs: %w: setting property %s by ioctl", ErrNotSupported, name)
	}
	if n, ok := words[value]; ok {
		return n, nil
	}
	if numeric(name) {
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			return n, nil
		}
	}
	return nil, fmt.Errorf("zfs: %w: %q is no value of property %s", ErrInvalid, value, name)
}
