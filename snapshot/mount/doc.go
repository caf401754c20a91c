// Package mount performs and finds mounts by system call.
//
// A Mount is what mount(8) calls a line: type, source and options, without the
// directory, so that a driver can name it, containerd can be handed it, and the
// store can perform it. The package keeps no state; the kernel's mountinfo is
// the only record of what is mounted.
package mount
