// Package ioctl holds the kernel's numbers and structures: one group of files
// per interface (device-mapper, loop, block, btrfs, ZFS, file system), spelled as the
// kernel's headers spell them, and the raw calls that carry them.
//
// It is the only package of the module that imports unsafe or issues raw
// system calls. Nothing here decides anything: no retries other than those
// that an interface prescribes, no policy, no logging. Packages above (dm,
// thinpool, btrfsvol, ...) give the calls their meaning and their Go names.
//
// # Invariants
//
//   - Every structure mirrors the one of the header that its comment cites, and
//     every request number is computed by [IOC] from the same parts as there.
//     A test compiles a probe against the installed kernel headers and compares
//     each size, each field's offset and size, and each number (see abi_test.go).
//   - Integers are in the machine's byte order unless the header says otherwise.
//   - A call returns the kernel's errno as a [syscall.Errno], unwrapped, so that
//     the caller can give it context once.
//   - Pointers are converted inside the system call's expression, so that the
//     collector keeps and does not move what they point to.
//
// # Never
//
// It keeps no state but whom it tells of its calls ([Observe]), opens no devices by
// itself (loop devices excepted, which are
// found and taken by opening them), and knows no package of this
// module.
package ioctl
