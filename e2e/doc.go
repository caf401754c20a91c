// Package e2e drives the built command line on real input with real partners:
// the three-layer Debian image, umoci, skopeo, dockerd, containerd and a kubelet. It holds the acceptance tests
// of the whole, and nothing imports it.
//
// The driver under test is BSTEST_DRIVER, or zfs on a kernel that has it (not in User
// Mode Linux, which has both), else devicemapper on one that has device-mapper, else
// btrfs. Every test ends with `check`, `destroy` and a look for what was left behind.
package e2e
