// Package drivertest is the conformance suite of package snapshot: a driver
// exists when it passes it. It is exported, so that anybody's driver can run it:
//
//	func TestConformance(t *testing.T) {
//		drivertest.Column(t, "mydriver")
//		drivertest.Run(t, drivertest.Factory{Kind: mydriver.Kind{}})
//	}
//
// Words: a case is one named behaviour; cases that need nothing special share one
// store, which is empty and checked again after each of them. A case that needs a
// small, a foreign or a broken store makes its own.
//
// Every store ends with Check, Close, Destroy and a search for what may have
// stayed behind: mounts, loop devices, files, goroutines, and what the factory's
// own Leaks finds. Nothing is skipped but what the factory declares as
// unsupported, with its reason. Scale makes cases smaller, never fewer.
//
// The suite covers what Docker's graphtest and containerd's snapshotter suite
// assert, and what both leave out. It needs root.
package drivertest
