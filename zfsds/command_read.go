package zfsds

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// aboutDataset are the properties of a Dataset.
const aboutDataset = "type,guid,createtxg,origin,clones"

func (*commands) stat(ctx context.Context, name string) (Dataset, error) {
	out, err := run(ctx, "zfs", "get", "-H", "-p", "-o", "property,source,value", aboutDataset, name)
	if err != nil {
		return Dataset{}, err
	}
	rows, err := parseGet(out)
	if err != nil {
		return Dataset{}, err
	}
	return datasetFrom(name, rows)
}

// A getRow is a line of zfs get.
type getRow struct {
	source, value string
}

// parseGet reads "property TAB source TAB value". The value comes last, since it may hold
// tabs; a line without two tabs goes on with the value before it.
func parseGet(out string) (map[string]getRow, error) {
	rows := map[string]getRow{}
	last := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		fields := strings.SplitN(line, "\t", 3)
		if len(fields) == 3 {
			last = fields[0]
			rows[last] = getRow{fields[1], fields[2]}
			continue
		}
		if last == "" {
			return nil, fmt.Errorf("%w: zfs get: line %.100q", ErrCorrupt, line)
		}
		row := rows[last]
		row.value += "\n" + line
		rows[last] = row
	}
	return rows, nil
}

func datasetFrom(name string, rows map[string]getRow) (Dataset, error) {
	return parseDataset([]string{
		name, rows["type"].value, rows["guid"].value, rows["createtxg"].value, rows["origin"].value, rows["clones"].value,
	})
}

// parseDataset reads name, type, guid, createtxg, origin and clones.
func parseDataset(fields []string) (Dataset, error) {
	if len(fields) != 6 {
		return Dataset{}, fmt.Errorf("%w: zfs list: %d columns in %.200q", ErrCorrupt, len(fields), fields)
	}
	d := Dataset{Name: fields[0], Type: Type(fields[1])}
	if !slices.Contains([]Type{Filesystem, Volume, Snapshot}, d.Type) {
		return d, fmt.Errorf("%w: %s is of type %.40q", ErrCorrupt, d.Name, fields[1])
	}
	var err error
	if d.GUID, err = number("guid", fields[2]); err != nil {
		return d, err
	}
	if d.Created, err = number("createtxg", fields[3]); err != nil {
		return d, err
	}
	if origin := absent(fields[4]); d.Type != Snapshot {
		d.Origin = origin
	}
	if clones := absent(fields[5]); clones != "" {
		d.Clones = strings.Count(clones, ",") + 1
	}
	return d, nil
}

// absent turns the command's sign for nothing into nothing.
func absent(value string) string {
	if value == "-" {
		return ""
	}
	return value
}

// number reads a value of zfs get -p.
func number(property, value string) (uint64, error) {
	switch absent(value) {
	case "", "none":
		return 0, nil
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: property %s is %.100q", ErrCorrupt, property, value)
	}
	return n, nil
}

func (*commands) get(ctx context.Context, name string) (Details, error) {
	out, err := run(ctx, "zfs", "get", "-H", "-p", "-o", "property,source,value", "all", name)
	if err != nil {
		return Details{}, err
	}
	return parseDetails(name, out)
}

func parseDetails(name, out string) (Details, error) {
	rows, err := parseGet(out)
	if err != nil {
		return Details{}, err
	}
	d := Details{User: map[string]UserProperty{}, KeyLoaded: true}
	if d.Dataset, err = datasetFrom(name, rows); err != nil {
		return d, err
	}
	d.numbers(func(property string) Bytes {
		n, broken := number(property, rows[property].value)
		if broken != nil {
			err = broken
		}
		return Bytes(n)
	})
	if status := absent(rows["keystatus"].value); status != "" && status != "none" {
		d.Encrypted, d.KeyLoaded = true, status == "available"
	}
	for property, row := range rows {
		if isUser(property) {
			d.User[property] = UserProperty{Value: row.value, Source: sourceFrom(name, row.source)}
		}
	}
	return d, err
}

// sourceFrom is the dataset that a property was set on.
func sourceFrom(name, source string) string {
	if from, ok := strings.CutPrefix(source, "inherited from "); ok {
		return from
	}
	return name
}

func (*commands) list(ctx context.Context, name string, snapshots bool, yield func(Dataset) bool) error {
	types := "filesystem,volume"
	if snapshots {
		types = "snapshot"
	}
	out, err := run(ctx, "zfs", "list", "-H", "-p", "-d", "1", "-t", types, "-o", "name,"+aboutDataset, name)
	if err != nil {
		return err
	}
	found, err := parseList(name, out)
	if err != nil {
		return err
	}
	for _, d := range found {
		if !yield(d) {
			return nil
		}
	}
	return nil
}

func parseList(parent, out string) ([]Dataset, error) {
	var found []Dataset
	for line := range strings.Lines(out) {
		d, err := parseDataset(strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
		if err != nil {
			return nil, err
		}
		if d.Name != parent {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, byAge)
	return found, nil
}

// writtenSince asks for the property written@snapshot, whose name may say the whole
// snapshot where it is another dataset's.
func (*commands) writtenSince(ctx context.Context, name, snapshot string) (Bytes, error) {
	property := "written@" + snapshot
	if own, ok := strings.CutPrefix(snapshot, name+"@"); ok {
		property = "written@" + own
	}
	out, err := run(ctx, "zfs", "get", "-H", "-p", "-o", "value", property, name)
	if err != nil {
		return 0, err
	}
	value := strings.TrimSpace(out)
	if value == "-" {
		return 0, fmt.Errorf("%w: %s is no earlier snapshot of %s", ErrNotFound, snapshot, name)
	}
	n, err := number(property, value)
	return Bytes(n), err
}

func (*commands) holds(ctx context.Context, snapshot string) ([]string, error) {
	out, err := run(ctx, "zfs", "holds", "-H", snapshot)
	if err != nil {
		return nil, err
	}
	var tags []string
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) < 2 || fields[0] != snapshot {
			return nil, fmt.Errorf("%w: zfs holds: line %.200q", ErrCorrupt, line)
		}
		tags = append(tags, fields[1])
	}
	slices.Sort(tags)
	return tags, nil
}

func (*commands) pools(ctx context.Context) ([]string, error) {
	out, err := run(ctx, "zpool", "list", "-H", "-o", "name")
	if err != nil {
		return nil, err
	}
	names := strings.Fields(out)
	slices.Sort(names)
	return names, nil
}

func (*commands) pool(ctx context.Context, name string) (Pool, error) {
	out, err := run(ctx, "zpool", "list", "-H", "-p", "-o", "name,health,size,allocated,free,freeing,fragmentation", name)
	if err != nil {
		return Pool{}, err
	}
	return parsePool(out)
}

func parsePool(out string) (Pool, error) {
	fields := strings.Split(strings.TrimSuffix(out, "\n"), "\t")
	if len(fields) != 7 {
		return Pool{}, fmt.Errorf("%w: zpool list: %d columns in %.200q", ErrCorrupt, len(fields), out)
	}
	p := Pool{Name: fields[0], Health: fields[1]}
	var err error
	bytes := func(property, value string) Bytes {
		n, broken := number(property, value)
		if broken != nil {
			err = broken
		}
		return Bytes(n)
	}
	p.Size, p.Allocated, p.Free = bytes("size", fields[2]), bytes("allocated", fields[3]), bytes("free", fields[4])
	p.Freeing, p.Fragmentation = bytes("freeing", fields[5]), int(bytes("fragmentation", strings.TrimSuffix(fields[6], "%")))
	return p, err
}
