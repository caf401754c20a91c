package lvm

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

const (
	// DevicePrefix begins the device-mapper uuids of all of LVM's devices.
	DevicePrefix = "LVM-"
	// poolLayer ends that of a pool device.
	poolLayer = "-tpool"
	// frontLayer ends that of the device in front of it.
	frontLayer = "-pool"
)

// Volume is a logical volume.
type Volume struct {
	Group, GroupUUID string
	Name, UUID       string
	// Pool says that it is a thin pool.
	Pool bool
	// Internal are those that LVM made for itself: a pool's data and metadata, the spare.
	Internal bool
	Active   bool
	Size     uint64
	// MetadataSize is a thin pool's.
	MetadataSize uint64
}

// Path is VG/LV.
func (v Volume) Path() string { return v.Group + "/" + v.Name }

// DeviceUUID is the device-mapper uuid of a thin pool's pool device, which renaming does not change (LVM's
// dev_manager.c: prefix, both uuids, layer).
func (v Volume) DeviceUUID() string {
	return DevicePrefix + strings.ReplaceAll(v.GroupUUID+v.UUID, "-", "") + poolLayer
}

// FrontUUID is that of the device which LVM puts in front of the pool device once there is a thin volume of LVM's in the
// pool. LVM looks at it alone when it is asked to deactivate the pool.
func (v Volume) FrontUUID() string { return strings.TrimSuffix(v.DeviceUUID(), poolLayer) + frontLayer }

// Fronted says of a pool device by its name whether there ought to be a device in front of it: LVM calls the pool device by
// the volume's own name until then.
func Fronted(name string) bool {
	return strings.HasSuffix(name, poolLayer) && !strings.HasSuffix(name, "-"+poolLayer) // a volume's own dashes are doubled
}

// Group is a volume group.
type Group struct {
	Name, UUID   string
	Tags         []string
	Extent, Free uint64
}

// Disk is a physical volume; Group is "" for one that is in none.
type Disk struct {
	Path, UUID, Group string
}

// Volumes lists all logical volumes.
func (t *Tool) Volumes(ctx context.Context) ([]Volume, error) {
	rows, err := t.report(ctx, "lvs", "lv", "--all", "-o",
		"vg_name,vg_uuid,lv_name,lv_uuid,lv_size,lv_layout,lv_active,lv_metadata_size")
	if err != nil {
		return nil, err
	}
	var all []Volume
	for _, r := range rows {
		v := Volume{
			Group: r.text("vg_name"), GroupUUID: r.text("vg_uuid"), Name: strings.Trim(r.text("lv_name"), "[]"), UUID: r.text("lv_uuid"),
			Pool:     r.list("lv_layout", "thin") && r.list("lv_layout", "pool"),
			Internal: strings.HasPrefix(r.text("lv_name"), "["), Active: r.text("lv_active") == "active",
			Size: r.number("lv_size"), MetadataSize: r.number("lv_metadata_size"),
		}
		if r.err != nil {
			return nil, r.err
		}
		all = append(all, v)
	}
	return all, nil
}

// Groups lists all volume groups.
func (t *Tool) Groups(ctx context.Context) ([]Group, error) {
	rows, err := t.report(ctx, "vgs", "vg", "-o", "vg_name,vg_uuid,vg_tags,vg_extent_size,vg_free")
	if err != nil {
		return nil, err
	}
	var all []Group
	for _, r := range rows {
		g := Group{Name: r.text("vg_name"), UUID: r.text("vg_uuid"), Extent: r.number("vg_extent_size"), Free: r.number("vg_free")}
		if tags := r.text("vg_tags"); tags != "" {
			g.Tags = strings.Split(tags, ",")
		}
		if r.err == nil && g.Extent == 0 {
			r.err = fmt.Errorf("%w: vgs: group %s has extents of 0 bytes", ErrCommand, g.Name)
		}
		if r.err != nil {
			return nil, r.err
		}
		all = append(all, g)
	}
	return all, nil
}

// Disks lists all physical volumes.
func (t *Tool) Disks(ctx context.Context) ([]Disk, error) {
	rows, err := t.report(ctx, "pvs", "pv", "-o", "pv_name,pv_uuid,vg_name")
	if err != nil {
		return nil, err
	}
	var all []Disk
	for _, r := range rows {
		d := Disk{Path: r.text("pv_name"), UUID: r.text("pv_uuid"), Group: r.text("vg_name")}
		if r.err != nil {
			return nil, r.err
		}
		all = append(all, d)
	}
	return all, nil
}

func (t *Tool) report(ctx context.Context, command, kind string, args ...string) ([]*row, error) {
	args = append([]string{command, "--reportformat", "json", "--units", "b", "--nosuffix"}, args...)
	out, err := t.run(ctx, args...)
	if err != nil {
		return nil, err
	}
	rows, err := parseReport(out, kind)
	if err != nil {
		return nil, fmt.Errorf("%w: reading what %s reports: %w", ErrCommand, command, err)
	}
	return rows, nil
}

// row is one line of a report; err is the first field's that is not what it ought to be.
type row struct {
	fields map[string]string
	err    error
}

// parseReport reads lvmreport(7)'s JSON: a list of reports, each a list of rows by the kind of what is reported.
func parseReport(out []byte, kind string) ([]*row, error) {
	var doc struct {
		Report []map[string][]map[string]string `json:"report"`
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return nil, err
	}
	if doc.Report == nil {
		return nil, fmt.Errorf("it has no %q", "report")
	}
	var rows []*row
	for _, r := range doc.Report {
		for _, fields := range r[kind] {
			rows = append(rows, &row{fields: fields})
		}
	}
	return rows, nil
}

func (r *row) text(name string) string {
	s, ok := r.fields[name]
	if !ok && r.err == nil {
		r.err = fmt.Errorf("%w: a report lacks the field %s", ErrCommand, name)
	}
	return s
}

func (r *row) list(name, word string) bool {
	for w := range strings.SplitSeq(r.text(name), ",") {
		if w == word {
			return true
		}
	}
	return false
}

// number reads bytes; an empty field, of what the volume does not have, is 0.
func (r *row) number(name string) uint64 {
	s := r.text(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%w: a report's field %s: %w", ErrCommand, name, err)
	}
	return n
}
