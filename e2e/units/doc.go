// Package units has real systemd run the units of packaging/systemd, as docs/docker.md
// and docs/containerd.md say, with Debian's own docker.service and containerd.service beside
// them. It is a package of its own, since its virtual machine has systemd and those of
// package e2e have not.
package units
