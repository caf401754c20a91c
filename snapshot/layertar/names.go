package layertar

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	aufsPrefix     = ".wh..wh."
	opaqueMarker   = ".wh..wh..opq"
	aufsLinks      = ".wh..wh.plnk"

	nameMax = 255 // NAME_MAX of every file system that holds layers
	pathMax = unix.PathMax - 1
)

// cleanName turns an entry's name into a path relative to the root: "." or
// components joined by single slashes, without "." and "..". A leading slash means
// the root, as for every reader of layers.
func cleanName(name string) (string, error) {
	if name == "" {
		return "", reason(ErrMalformed, "empty name")
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", reason(ErrMalformed, "NUL in the name")
	}
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", reason(ErrEscapes, `".." leaves the root`)
	}
	if len(clean) > pathMax {
		return "", reason(ErrMalformed, "name too long")
	}
	if len(clean) > nameMax {
		for c := range strings.SplitSeq(clean, "/") {
			if len(c) > nameMax {
				return "", reason(ErrMalformed, "component of the name too long")
			}
		}
	}
	return clean, nil
}

// checkSymlink refuses targets that nobody could resolve or that climb out of the
// root. name is clean.
func checkSymlink(name, target string) error {
	switch {
	case target == "":
		return reason(ErrMalformed, "symbolic link without a target")
	case len(target) > pathMax:
		return reason(ErrMalformed, "target of the symbolic link too long")
	case strings.IndexByte(target, 0) >= 0:
		return reason(ErrMalformed, "NUL in the target of the symbolic link")
	case target[0] == '/':
		return nil // resolved within the root, whoever follows it there
	}
	if p := path.Join(path.Dir(name), target); p == ".." || strings.HasPrefix(p, "../") {
		return reason(ErrEscapes, "symbolic link to "+quote(target))
	}
	return nil
}

// cleanLink is cleanName for the target of a hard link, which must be relative.
func cleanLink(target string) (string, error) {
	if target == "" {
		return "", reason(ErrMalformed, "hard link without a target")
	}
	if target[0] == '/' {
		return "", reason(ErrEscapes, "hard link to the absolute path "+quote(target))
	}
	clean, err := cleanName(target)
	if err != nil {
		return "", reason(err, "hard link to "+quote(target))
	}
	return clean, nil
}

// whiteout is what a name means under the rules for whiteouts.
type whiteout int

const (
	notWhiteout    whiteout = iota
	whiteoutPath            // deletes the sibling named by target
	whiteoutOpaque          // hides what the layers below have in the directory
	whiteoutSkip            // aufs' bookkeeping
	whiteoutAside           // aufs' hard link targets: unpacked, removed at the end
)

// classify tells what a clean name means to [WhiteoutsObeyed].
func classify(name string) (kind whiteout, target string, err error) {
	if !strings.Contains(name, whiteoutPrefix) {
		return notWhiteout, "", nil
	}
	first, _, below := strings.Cut(name, "/")
	if strings.HasPrefix(first, aufsPrefix) && first != opaqueMarker {
		if first == aufsLinks && below {
			return whiteoutAside, "", nil
		}
		return whiteoutSkip, "", nil
	}
	dir, base := path.Split(name)
	for c := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(c, whiteoutPrefix) {
			return 0, "", reason(ErrWhiteout, "a whiteout is no directory")
		}
	}
	if !strings.HasPrefix(base, whiteoutPrefix) {
		return notWhiteout, "", nil
	}
	if base == opaqueMarker {
		return whiteoutOpaque, "", nil
	}
	target = base[len(whiteoutPrefix):]
	switch {
	case target == "" || target == "." || target == "..":
		return 0, "", reason(ErrWhiteout, "names nothing that could be deleted")
	case strings.HasPrefix(target, whiteoutPrefix):
		return 0, "", reason(ErrWhiteout, "no file's name begins with "+quote(whiteoutPrefix))
	}
	return whiteoutPath, target, nil
}

// holdsWhiteout tells whether any component of a clean name is one.
func holdsWhiteout(name string) bool {
	return strings.HasPrefix(name, whiteoutPrefix) || strings.Contains(name, "/"+whiteoutPrefix)
}
