// Package lvm makes, finds, extends and removes thin pools of LVM by LVM's own tools, so that its metadata, locks and
// archives are as for any other volume. They are run to set a pool up, to extend it and to activate it after a boot, and
// never in between: the thin devices in a pool are package thinpool's (a Share).
//
// Words, as in lvm(8) and lvmthin(7): a physical volume is a disk with LVM's label, a volume group joins some of them, a
// logical volume is cut out of a group; a thin pool is one. Sizes in bytes.
//
// Invariants:
//
//   - A volume group is ours when it has our tag, an orphaned physical volume when it has one of the uuids that follow
//     from its owner's identity. Nothing else is ever removed or wiped.
//   - A disk is taken when it is blank; with force also one that holds old data, but never one that is in use or belongs
//     to a volume group.
//   - What was cut short is done or undone by doing it again: each step looks first at what there is.
//   - Reports are read as JSON and by field names; no text for people is parsed but the version's line. Each command has
//     a time limit, and the messages of one that failed are in the error.
package lvm
