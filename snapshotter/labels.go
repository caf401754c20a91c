package snapshotter

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// labelMaxSize limits a snapshot, image included, in bytes (containerd 2.4,
// containerd#13520).
const labelMaxSize = "containerd.io/snapshot/max-size"

// Bounds of labels. containerd's own bounds one label (pkg/labels).
const (
	maxLabel  = 4096
	maxLabels = 1 << 20
)

func checkLabels(labels map[string]string) error {
	total := 0
	for k, v := range labels {
		if len(k)+len(v) > maxLabel {
			return fmt.Errorf("label %.32q has %d bytes (at most %d): %w", k, len(k)+len(v), maxLabel, errdefs.ErrInvalidArgument)
		}
		total += len(k) + len(v)
	}
	if total > maxLabels {
		return fmt.Errorf("labels of %d bytes (at most %d): %w", total, maxLabels, errdefs.ErrInvalidArgument)
	}
	return nil
}

// sizeLimit reads labelMaxSize; 0 is no wish.
func sizeLimit(labels map[string]string) (int64, error) {
	text, ok := labels[labelMaxSize]
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("label %s=%q is no number of bytes: %w", labelMaxSize, text, errdefs.ErrInvalidArgument)
	}
	return n, nil
}

// unpacking says whether a layer is to be unpacked into a snapshot, by what containerd's
// unpacker names it and tells with it. After a power cut it begins with another one.
func unpacking(key string, labels map[string]string) bool {
	_, ref := labels[snapshots.LabelSnapshotRef]
	return ref && strings.HasPrefix(path.Base(key), snapshots.UnpackKeyPrefix+"-")
}

// idMapping is a mapping as containerd writes it: container id, host id, length.
var idMapping = regexp.MustCompile(`^\d+:\d+:\d+(,\d+:\d+:\d+)*$`)

// remapping turns the labels of a user namespace into the mount options with which
// containerd makes an idmapped mount (mount_setattr(2)).
func remapping(labels map[string]string) ([]string, error) {
	uid, gid := labels[snapshots.LabelSnapshotUIDMapping], labels[snapshots.LabelSnapshotGIDMapping]
	if uid == "" && gid == "" {
		return nil, nil
	}
	if !idMapping.MatchString(uid) || !idMapping.MatchString(gid) {
		return nil, fmt.Errorf("id mappings %q and %q: %w", uid, gid, errdefs.ErrInvalidArgument)
	}
	return []string{"uidmap=" + uid, "gidmap=" + gid}, nil
}

// changed says whether the parent has the mapping's owners already. A containerd that is
// not told of remap-ids, as 1.7 must not be since it makes no idmapped mounts, changes
// them in a layer that it names after the image's with both host ids
// (resolveSnapshotOptions in its client), and hands the labels on all the same.
func changed(parent string, labels map[string]string) bool {
	uid, _, _ := strings.Cut(cutFirst(labels[snapshots.LabelSnapshotUIDMapping]), ":")
	gid, _, _ := strings.Cut(cutFirst(labels[snapshots.LabelSnapshotGIDMapping]), ":")
	return uid != "" && gid != "" && strings.HasSuffix(parent, "-"+uid+"-"+gid)
}

// cutFirst is what follows the first colon.
func cutFirst(text string) string { _, rest, _ := strings.Cut(text, ":"); return rest }

// updated is what Update makes of labels: without paths, or with "labels", the new
// ones; with "labels.KEY" that one, which goes where it is missing or empty.
func updated(old, wanted map[string]string, paths []string) (map[string]string, error) {
	if len(paths) == 0 {
		paths = []string{"labels"}
	}
	labels := maps.Clone(old)
	for _, field := range paths {
		if field == "labels" {
			labels = maps.Clone(wanted)
			continue
		}
		key, ok := strings.CutPrefix(field, "labels.")
		if !ok {
			return nil, fmt.Errorf("cannot update %q of a snapshot, only labels: %w", field, errdefs.ErrInvalidArgument)
		}
		if labels == nil {
			labels = map[string]string{}
		}
		if labels[key] = wanted[key]; labels[key] == "" {
			delete(labels, key)
		}
	}
	return labels, checkLabels(labels)
}
