// Package dm is a device-mapper client: it makes, loads, suspends, resumes, renames and
// removes devices, reads tables and statuses, sends messages and watches events, by the
// kernel's ioctls alone. It needs neither libdevmapper nor dmsetup nor cgo, and works
// with udev and without.
//
// # Words
//
// They are the kernel's. A device has a name, optionally a uuid, and up to two
// tables: the active one maps its I/O, the inactive one has been loaded and becomes
// active with the next resume. A [Table] is rows, each of which maps a stretch of sectors
// to a [Target]: a typed one such as [Linear] or [ThinPool], or [Raw]. A target prints
// itself as a status and raises events, which a device counts. [Sectors] are
// 512 bytes always.
//
// # Use
//
// [Open] gives a [Client]; [Client.CreateLoaded] makes a device that works; [Path] is its
// node; [Client.Remove] ends it. [Client.Watch] reports events. All devices are named
// by a [Ref]: [Name], [UUID] or [Dev].
//
// # Invariants
//
//   - One function issues all ioctls. It sends interface version 4.0.0, which every
//     4.x kernel takes; repeats on EINTR; enlarges the buffer, up to a bound, while a
//     reply does not fit; and wraps each errno with command and device.
//   - errors.Is finds both the package's sentinel ([ErrNotFound], [ErrExists],
//     [ErrBusy], ...) and the kernel's errno in an error.
//   - What the kernel would cut or refuse in silence (long names, gaps in a table) is
//     [ErrInvalid] before any ioctl.
//   - A text of the kernel is parsed whole. A word that is not in its grammar is
//     [ErrSyntax] and names the field; every parser has an inverse.
//   - A message is never sent twice.
//   - Uevents carry a cookie that keeps udev's rules from probing the device, so that
//     no worker of udev's holds what is about to be removed (see [UdevMode]).
//   - Waiting holds no thread and ends with the context, except inside the kernel: one
//     ioctl cannot be interrupted.
//
// # Never
//
// The package keeps no record of devices and touches none that it is not asked to: there
// is no "remove all". It never retries a busy device unless told for how long, never
// runs another program, and knows nothing of thin pools beyond the text of their tables,
// statuses and messages: that a pool may roll back a message that it has answered with
// success is for its user to handle.
//
// # Tests
//
// Unit tests put a fake kernel behind the client's one function and compare the bytes of
// requests and replies with those of a real kernel (testdata/wire). Tests named
// TestKernel use the running kernel's device-mapper and skip without one.
//
// Kernel documents: include/uapi/linux/dm-ioctl.h, Documentation/admin-guide/device-mapper.
package dm
