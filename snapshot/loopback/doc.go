// Package loopback is what drivers share whose stores lie in a file below the store's
// root, which the kernel uses as a disk: how large it is made, and what the file system
// below it has left.
//
// Invariants: sizes are bytes; nothing is written. It knows no driver, and never makes or
// looks for a loop device, which is ioctl's.
package loopback
