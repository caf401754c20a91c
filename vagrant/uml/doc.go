// Command uml runs one command inside User Mode Linux, a Linux kernel that is
// an ordinary process, and exits with the command's exit status. It is how the
// tests reach device-mapper and ZFS on a machine whose own kernel has none, and how
// they use them without touching the machine's own devices where it has.
//
//	vagrant/uml/run [--mem 2G] [--disk 2G]... [--timeout 10m] [-e VAR=VAL] -- COMMAND [ARG]...
//
// # What the command sees
//
// The host's whole root file system at the host's paths, as the lower layer of
// an overlay whose upper layer is a tmpfs: everything can be written and the
// host sees none of it. The command starts in the caller's working directory.
//
//   - --disk SIZE gives blank disks /dev/ubda, /dev/ubdb, ...; --disk /PATH is a
//     file that keeps what was written, also when the machine is killed (when
//     the host loses its power it need not).
//   - --share DIR shows a host directory at its own path for reading and
//     writing: results leave the machine there.
//   - $BSTEST_DIR (also $TMPDIR) is an ext4 file system on a disk of its own.
//     Loop devices want it: on tmpfs they refuse direct I/O, and on overlay a
//     sparse file costs memory. /var/lib/blockstore, /var/lib/docker,
//     /var/lib/containerd and /var/lib/containers lie there too, empty at each boot.
//     Its file on the host keeps what is freed in the machine, up to --scratch, until the
//     machine ends.
//   - root's rights, one CPU, cgroup v2, no network but lo, no udev
//     (DM_DISABLE_UDEV=1), /dev/null as stdin. BLOCKSTORE_MACHINE=uml says
//     where it is.
//   - The environment is a fixed small one, the caller's BLOCKSTORE_* and CI,
//     and whatever -e names.
//
// The kernel is the one that make beside this file builds, of the sources in Debian's
// testing suite or $UML_SUITE, with what kernel/config asks for, with what the other files
// there change for speed, and with ZFS's module and programs: from Linux 6.16 on it runs
// programs by seccomp(2), where it ran them by ptrace(2). With UML_SUITE=installed it is
// this machine's own, Debian 12's 6.1, which has no ZFS.
//
// The machine's processes stay on one of the host's processors, one that no
// other machine has while there is one: up to that number machines run side by
// side without being slower.
//
// Package machine says what exit statuses mean and what is left behind:
// nothing.
//
// The binary is both ends: on the host it prepares and boots; inside, started
// by the kernel as process 1, it is the init that mounts, loads modules and
// runs the command. Nothing imports it.
package main
