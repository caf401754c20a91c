// Command vm runs one command inside a virtual machine and exits with the
// command's exit status. It is how the tests reach what User Mode Linux
// (../uml) lacks: ZFS, a second processor, udev, systemd.
//
//	vagrant/vm/run [--mem 2G] [--disk 2G]... [--udev|--systemd] [--timeout 10m] [-e VAR=VAL] -- COMMAND [ARG]...
//
// It boots Debian's kernel and programs in QEMU, with KVM where a machine
// boots with the host's (tried once per boot of the host), else by emulation:
// then it is for correctness and counts, not for speed. A boot takes seven
// seconds, a processor is ten to twenty times slower than the host's. The
// image is built by ./make at the first run, which takes six minutes on two
// idle processors, and kept in the cache.
//
//	vagrant/vm/run driver       which of libvirt's drivers boots the image here: kvm or qemu
//	vagrant/vm/run initrd FILE  the initial file system of Vagrant's box (../box)
//
// # What the command sees
//
// The image's own Debian: /usr, /etc, /var and the other directories of a
// system. Beside them the host's other directories (/root, /home, /srv,
// /tmp, ... and the Go module around the working directory, /var/tmp and the
// cache, wherever they lie) at the host's paths, as lower layers of overlays:
// everything can be written and the host sees none of it. The command starts
// in the caller's working directory.
//
//   - --disk SIZE gives blank disks /dev/vda, /dev/vdb, ...; --disk /PATH is a
//     file that keeps what was written, also when the machine is killed.
//   - --share DIR shows a host directory at its own path for reading and
//     writing: results leave the machine there.
//   - $BSTEST_DIR (also $TMPDIR) is an ext4 file system on a disk of its own.
//     /var/lib/blockstore, /var/lib/docker, /var/lib/containerd and
//     /var/lib/containers lie there, empty at each boot.
//   - root's rights, two CPUs, cgroup v2, no network but lo, /dev/null as
//     stdin. BLOCKSTORE_MACHINE=vm says where it is. Modules load by
//     themselves when a device node, a file system or a target is first used.
//   - Without --udev there is no udev (DM_DISABLE_UDEV=1). With --systemd the
//     command is a service of it, started when the machine is up.
//   - The environment is a fixed small one, the caller's BLOCKSTORE_* and CI,
//     and whatever -e names.
//
// Package machine says what exit statuses mean and what is left behind:
// nothing.
//
// The binary is both ends: on the host it prepares and boots; inside, started
// by the kernel as process 1 from the initial file system, it is the init that
// loads modules, mounts and runs the command. Nothing imports it.
package main
