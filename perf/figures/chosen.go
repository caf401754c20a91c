package figures

import (
	"regexp"
	"slices"

	"blockstore.dev/blockstore/perf"
)

// columns are those that are shown of a report: what people use, the floor, and ours.
// All others are in the reports.
func columns() []string {
	return []string{
		"overlay/ext4", "overlay/xfs", "lvm", "zfs", "floor/btrfs", "floor/devicemapper", "floor/zfs", // the matrix's
		"overlay2", "btrfs", "devicemapper", // Docker's
		"overlayfs", "devmapper", // containerd's, beside its btrfs
		"blockstore/btrfs", "blockstore/devicemapper", "blockstore/zfs",
	}
}

// rowNames are those of the rows and parts that are shown, in the order of the reports.
// Of rows that differ in scale it is the one of the greatest.
func rowNames() []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, name := range []string{
		`W1 first write into a file, [^:]*`,
		`W2 \d+ durable writes, (first|second) pass, with fio's start`,
		`W3 (append to|make|remove) [^:]*`,
		`W4 an image's layers until all of it is on disk`,
		`W5 (create|whole life cycle), [^:]*`,
		`W5 create, [^:]*: and until it is on disk`, // to which the others come in their own time
		`W6 \d+ creates, [^:]*`,
		`W7 diff of a container`,
		`W8 commit of a container`,
		`W9 remove \d+ layers( in one go|, one after the other)?`,
		`W9 a durable write beside the removals, 99th percentile`,
		`W10 [^:]*`,
		`W11 [^:]*`,
		`W12 read the same file, [^:]*`,
		`W13 close and open again, [^:]*`,
		`W14 (4 KiB random writes, depth 1|128 KiB reads in order, depth 4)`,
		`blockstore load of the real image`,
		`docker (load of the real image|create, a container|(diff|commit) after a small change)`,
		`docker create, image with the large file`,
		`first write: four bytes, (cold|warm)`,
		`then a random overwrite of 4 KiB, fdatasync each`,
		`docker rm(, a container with a changed large file| of \d+ containers, one command)`,
		`(prepare|remove|prepare and commit, nothing written)`,
		`unpack of (\d+ layers|the real image)`,
		`\d+ prepares at once, until the last`,
	} {
		all = append(all, regexp.MustCompile(`^(`+name+`)$`))
	}
	return all
}

// chosen are the rows of a report that are shown.
func chosen(r *perf.Report) []*perf.Row {
	names := rowNames()
	return slices.DeleteFunc(slices.Clone(r.Rows), func(row *perf.Row) bool {
		named := slices.ContainsFunc(names, func(name *regexp.Regexp) bool { return name.MatchString(row.Name) })
		return !named || slices.ContainsFunc(r.Rows, func(other *perf.Row) bool {
			return row.Series != "" && other.Series == row.Series && other.Unit == row.Unit && other.Scale > row.Scale
		})
	})
}
