package layertar

import (
	"archive/tar"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	xattrCapability = "security.capability"
	xattrACLAccess  = "system.posix_acl_access"
	xattrACLDefault = "system.posix_acl_default"

	paxXattr = "SCHILY.xattr."

	// linux/limits.h: XATTR_NAME_MAX, and XATTR_SIZE_MAX = XATTR_LIST_MAX.
	xattrNameMax = 255
	xattrSizeMax = 64 << 10
)

// xattr is one extended attribute.
type xattr struct{ name, value string }

// GNU tar writes the two characters that a PAX keyword cannot hold like this.
var (
	paxEncode = strings.NewReplacer("%", "%25", "=", "%3D")
	paxDecode = strings.NewReplacer("%25", "%", "%3D", "=")
)

// headerXattrs takes the extended attributes out of a header, sorted by name.
// foreign counts those outside the kernel's namespaces.
func headerXattrs(hdr *tar.Header) (list []xattr, foreign int, err error) {
	for key, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok {
			continue
		}
		name = paxDecode.Replace(name)
		switch {
		case name == "" || len(name) > xattrNameMax || strings.IndexByte(name, 0) >= 0:
			return nil, 0, reason(ErrMalformed, "invalid name of an extended attribute "+quote(name))
		case len(value) > xattrSizeMax:
			return nil, 0, reason(ErrMalformed, "extended attribute "+quote(name)+" is too large")
		case !keptXattr(name):
			foreign++
			continue
		}
		list = append(list, xattr{name, value})
	}
	slices.SortFunc(list, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	return list, foreign, nil
}

// keptXattr tells which attributes belong to a layer. Labels and signatures of this
// host (SELinux, EVM) do not, nor do file system properties such as btrfs.compression.
func keptXattr(name string) bool {
	switch {
	case name == "security.selinux" || name == "security.evm":
		return false
	case strings.HasPrefix(name, "user."), strings.HasPrefix(name, "trusted."),
		strings.HasPrefix(name, "security."):
		return true
	}
	return name == xattrACLAccess || name == xattrACLDefault
}

// at is a path for calls that take no descriptor: the l-variants of the xattr calls
// follow the magic link to the directory, and nothing after it.
func at(dirfd int, base string) string {
	return "/proc/self/fd/" + strconv.Itoa(dirfd) + "/" + base
}

// checkSet judges the error of setting an attribute: nil if it may be left out
// (ignored is then true).
func checkSet(a xattr, special bool, err error) (ignored bool, _ error) {
	vital := a.name == xattrCapability || a.name == xattrACLAccess || a.name == xattrACLDefault
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, unix.EINVAL) && vital:
		return false, reason(ErrMalformed, "the kernel refuses the value of extended attribute "+quote(a.name))
	case errors.Is(err, unix.ENOTSUP) && !vital:
		return true, nil
	case errors.Is(err, unix.EPERM) && special && strings.HasPrefix(a.name, "user."):
		return true, nil // xattr(7): user attributes exist on files and directories only
	}
	return false, reason(err, "setting extended attribute "+quote(a.name))
}

// listXattrs reads all attributes that belong to a layer, sorted by name.
func listXattrs(dirfd int, base string) ([]xattr, error) {
	p := at(dirfd, base)
	names, err := growing(func(buf []byte) (int, error) { return unix.Llistxattr(p, buf) })
	if err != nil {
		if errors.Is(err, unix.ENOTSUP) {
			return nil, nil
		}
		return nil, fmt.Errorf("listing extended attributes: %w", err)
	}
	if names == "" {
		return nil, nil
	}
	var list []xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		if !keptXattr(name) {
			continue
		}
		value, err := growing(func(buf []byte) (int, error) { return unix.Lgetxattr(p, name, buf) })
		if err != nil {
			return nil, fmt.Errorf("reading extended attribute %q: %w", name, err)
		}
		list = append(list, xattr{name, value})
	}
	slices.SortFunc(list, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	return list, nil
}

// growing calls f with larger buffers until the answer fits.
func growing(f func([]byte) (int, error)) (string, error) {
	var small [256]byte
	buf := small[:]
	for {
		n, err := f(buf)
		if err == nil {
			return string(buf[:n]), nil
		}
		if !errors.Is(err, unix.ERANGE) || len(buf) > xattrSizeMax {
			return "", err
		}
		buf = make([]byte, 4*len(buf))
	}
}
