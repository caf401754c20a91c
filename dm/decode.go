package dm

import (
	"encoding/binary"
	"fmt"

	"blockstore.dev/blockstore/ioctl"
)

// decodeLines reads the reply of TABLE_STATUS. A spec's next is relative to the first.
func decodeLines(data []byte, count int) ([]Line, error) {
	lines := make([]Line, 0, min(count, 1024))
	at := 0
	for i := range count {
		var spec ioctl.DMTargetSpec
		if err := decode(data, at, &spec); err != nil {
			return nil, fmt.Errorf("target %d: %w", i, err)
		}
		lines = append(lines, Line{
			Start: Sectors(spec.SectorStart), Length: Sectors(spec.Length),
			Type: ioctl.CString(spec.TargetType[:]), Params: ioctl.CString(data[at+ioctl.DMTargetSpecSize:]),
		})
		if int(spec.Next) <= at && i < count-1 {
			return nil, fmt.Errorf("target %d: %w: next is %d", i, ErrSyntax, spec.Next)
		}
		at = int(spec.Next)
	}
	return lines, nil
}

// decodeDeps reads the reply of TABLE_DEPS.
func decodeDeps(data []byte) ([]Number, error) {
	var head ioctl.DMTargetDeps
	if err := decode(data, 0, &head); err != nil {
		return nil, err
	}
	deps := make([]Number, 0, min(head.Count, 1024))
	for i := range int(head.Count) {
		var dev uint64
		if err := decode(data, ioctl.DMTargetDepsSize+8*i, &dev); err != nil {
			return nil, fmt.Errorf("dependency %d: %w", i, err)
		}
		deps = append(deps, NumberOf(dev))
	}
	return deps, nil
}

// decodeTargets reads the reply of LIST_VERSIONS and GET_TARGET_VERSION. An entry's next is
// relative to itself, 0 for the last.
func decodeTargets(data []byte) ([]TargetVersion, error) {
	var versions []TargetVersion
	for at := 0; ; {
		var entry ioctl.DMTargetVersions
		if err := decode(data, at, &entry); err != nil {
			return nil, fmt.Errorf("target version %d: %w", len(versions), err)
		}
		v := entry.Version
		versions = append(versions, TargetVersion{
			Name:    ioctl.CString(data[at+ioctl.DMTargetVersionsNameSize:]),
			Version: Version{Major: v[0], Minor: v[1], Patch: v[2]},
		})
		if entry.Next == 0 {
			return versions, nil
		}
		at += int(entry.Next)
	}
}

// A listEntry is one device of LIST_DEVICES. Old kernels do not say whether there is a uuid.
type listEntry struct {
	Device
	knowsUUID bool
}

// decodeList reads the reply of LIST_DEVICES: name lists whose next is relative to
// themselves; behind the name, aligned to 8, come the event number (4.37), then flags and uuid.
func decodeList(data []byte, minor uint32) ([]listEntry, error) {
	if len(data) == 0 {
		return nil, nil // the filter left nothing
	}
	var entries []listEntry
	for at := 0; ; {
		var head ioctl.DMNameList
		if err := decode(data, at, &head); err != nil {
			return nil, fmt.Errorf("list entry %d: %w", len(entries), err)
		}
		if head.Dev == 0 {
			return entries, nil // the whole reply of a kernel without devices
		}
		end := len(data)
		if head.Next != 0 {
			if int(head.Next) <= ioctl.DMNameListNameOffset {
				return nil, fmt.Errorf("list entry %d: %w: next is %d", len(entries), ErrSyntax, head.Next)
			}
			end = min(end, at+int(head.Next))
		}
		entry, err := decodeListEntry(data[at:end], minor)
		if err != nil {
			return nil, fmt.Errorf("list entry %d: %w", len(entries), err)
		}
		entry.Dev = NumberOf(head.Dev)
		entries = append(entries, entry)
		if head.Next == 0 {
			return entries, nil
		}
		at += int(head.Next)
	}
}

// decodeListEntry reads what follows the fixed part of one entry.
func decodeListEntry(data []byte, minor uint32) (listEntry, error) {
	entry := listEntry{Device: Device{Name: ioctl.CString(data[ioctl.DMNameListNameOffset:])}}
	tail := align8(ioctl.DMNameListNameOffset + len(entry.Name) + 1)
	if minor >= minorListEvent {
		if err := decode(data, tail, &entry.EventNr); err != nil {
			return listEntry{}, err
		}
	}
	// Old kernels end here or leave our own zeroes: neither flag is set.
	var flags uint32
	if decode(data, tail+4, &flags) != nil {
		return entry, nil
	}
	switch {
	case flags&ioctl.DM_NAME_LIST_FLAG_HAS_UUID != 0:
		entry.UUID, entry.knowsUUID = ioctl.CString(data[tail+8:]), true
	case flags&ioctl.DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID != 0:
		entry.knowsUUID = true
	}
	return entry, nil
}

// minorListEvent is the interface minor from which on the list has event numbers.
const minorListEvent = 37

// decode reads a value of fixed size at an offset; bytes that are not there are an error.
func decode(data []byte, at int, value any) error {
	if at < 0 || at > len(data) || len(data)-at < binary.Size(value) {
		return fmt.Errorf("%w: reply of %d bytes ends before offset %d", ErrSyntax, len(data), at)
	}
	if _, err := binary.Decode(data[at:], binary.NativeEndian, value); err != nil {
		return fmt.Errorf("decoding at offset %d: %w", at, err)
	}
	return nil
}
