// Command tiers runs the project's tests on every kernel that they need and
// says what ran where.
//
//	tiers test   [flags] [PACKAGE]...            the host tier, then the uml and vm tiers for what it skipped, and the zfs tier
//	tiers host   [flags] [PACKAGE]...            the host tier alone
//	tiers uml    [flags] [PACKAGE]...            host, uml and zfs, with the host's results from go's cache where it has them
//	tiers vm     [flags] [PACKAGE]...            host and vm, likewise
//	tiers gotest [flags] PACKAGE... [-- FLAG...] all tests of the packages in User Mode Linux, or --in-vm, with test flags
//
// # Words
//
// A tier is a kernel that tests run on: host is the machine's own, uml is
// User Mode Linux (../uml), vm is a virtual machine (../vm), and zfs is User Mode
// Linux once more, for tests of which a kernel's run takes one driver. A result is the
// outcome of one test in one tier.
//
// # What counts
//
// Each test without subtests counts once over all tiers: failed if it failed
// anywhere, else passed if it passed anywhere, else skipped. So a test that
// the host skips for want of device-mapper and that passes in User Mode Linux
// has passed. Every test that was skipped everywhere is listed with its
// reason; one that lacked everywhere what a tier of the run has (device-mapper and ZFS
// in uml; ZFS, udev, systemd, a second processor or modules of its own in vm) is a failure, and so
// is a package whose binary ended without a verdict (a panic, a time limit)
// and a tier in which nothing ran.
//
// The uml tier runs the tests that the host skipped, but for those of what only the
// vm tier has: on a host that has everything it runs none. It begins beside the host
// tier, with one machine and the packages that have ended there, and has its second one when
// a single package is left there. The vm tier,
// by far the slowest, runs those whose reason on another tier names what only it has,
// each package or long test in a machine of its own, with systemd or udev where one of
// the reasons names that; what is for want of ZFS it runs only if the uml tier did not.
// Packages given with --uml-all, --zfs-all or --vm-all run there as well, whole: their tests take
// another driver on another kernel. uml and zfs get those that have a machine of their own as
// soon as each has ended on the host, and the others with the package's end.
// A machine takes a processor for itself: those of the zfs
// tier begin when one of the uml tier has no more to do, and those of the vm tier after them.
//
// What ran of the drivers' conformance suite is one table: a row per case, a column
// per name that a test gave to drivertest.Column.
//
// Afterwards nothing may be left: loop devices, mounts, device-mapper devices,
// processes or files of the tests fail the run.
package main
