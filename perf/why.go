package perf

import "regexp"

// reason is what a target that was missed is due to, as far as it was found out;
// docs/performance.md has how.
type reason struct {
	target *regexp.Regexp
	why    string
}

// reasons are by a target's text and, on a line of its own, the row that it is about; the first that fits. They are beside the reports and not
// in them: a report holds what was measured.
var reasons = []reason{
	{
		regexp.MustCompile(`(500 times|1,000 times less).*\(for 1 GiB\)\n.*\b\d{1,3} MiB$|into a file of \d{1,3} MiB: 500 times`),
		"what overlay copies grows with the file, and the target is for one of 1 GiB",
	},
	{
		regexp.MustCompile(`zfs: held by the disk`),
		"what ZFS leaves in its file varies by tens of MiB from one round to the next, with the kernel's ioctls alone, the floor, too",
	},
	{
		regexp.MustCompile(`first write .* overlay on xfs`),
		"what takes long is the fsync of the file system inside; the kernel's ioctls alone, the floor, have it as well",
	},
	{
		regexp.MustCompile(`devicemapper: create: at most 1\.3 times the floor`),
		"each creation waits for the disk for its record, and the floor keeps none",
	},
	{
		regexp.MustCompile(`devicemapper: create: with \d+ layers`),
		"each creation writes more pages of the catalog's file where that has hundreds of entries, by a system call each, and waits for none of them",
	},
	{
		regexp.MustCompile(`zfs: create: with \d+ layers`),
		"what one creation takes on ZFS varies by more than that from one to the next, with the kernel's ioctls alone, the floor, too",
	},
	{
		regexp.MustCompile(`zfs: close and open again`),
		"what a crash may have left was looked for in each of the store's datasets after a clean stop, too, which is so no more",
	},
	{
		regexp.MustCompile(`btrfs: close and open again`),
		"what a crash may have left of layers is looked for among their files; until 5f2f75c the record of each was decoded, too",
	},
	{
		regexp.MustCompile(`devicemapper: \d+ creates by \d+ goroutines`),
		"each waits for a look at the pool and for a commit of the catalog that it shares, which the floor has not",
	},
	{
		regexp.MustCompile(`4 KiB random writes, steady`),
		"nothing of the store's runs at such a write: what differs is below it",
	},
	{
		regexp.MustCompile(`tar -x`),
		"tar computes no digest of the layers and no sums of the files, and waits for the disk once and not for each layer",
	},
	{
		regexp.MustCompile(`remove \d+ layers .* faster than overlay`),
		"what was removed is gone after a power cut here, while overlay leaves that to the kernel; and each layer has its record",
	},
	{
		regexp.MustCompile(`unpack of \d+ layers?: `),
		"the unpacker waits for the disk after each file, which takes longer on btrfs and on a thin pool than on ext4 alone, and each layer is on the disk when it is committed, which overlayfs leaves to the kernel",
	},
	{
		regexp.MustCompile(`unpack of the real image: `),
		"nearly all of it is the writing of the files: in a thin pool devmapper takes as long for that",
	},
	{
		regexp.MustCompile(`prepare with \d+ snapshots present`),
		"all that grows with the snapshots is the depth of the catalog's tree: one prepare differs from the next by more",
	},
	{
		regexp.MustCompile(`faster than devmapper`),
		"seen in test machines only, User Mode Linux and emulation, where by strace the ioctls and the waits for the disk are the smaller part of it, and what a process's system calls cost the larger",
	},
	{
		regexp.MustCompile(`docker load`),
		"what was loaded is on the disk when the command ends, which overlay2 leaves to the kernel",
	},
	{
		regexp.MustCompile(`docker create: 20 times`),
		"nearly all of the command is dockerd's own work, with every driver",
	},
	{
		regexp.MustCompile(`docker create`),
		"a plugin that stores nothing takes as long as overlay2, and ours mounts what dockerd asks for and waits once for its catalog on the disk",
	},
}

// why is what a missed target is due to, or "".
func (t Target) why() string {
	for _, r := range reasons {
		if r.target.MatchString(t.Text + "\n" + t.Cell.Row) {
			return r.why
		}
	}
	return ""
}
