// Command blockstore keeps container images and containers as thin snapshots.
//
// One file holds one verb: flags become an options struct, the struct becomes
// one call of the store. What is common to all verbs has a file of its own:
// exit codes (exit.go), how to mend an error (hints.go), output (output.go),
// sizes (size.go), progress (progress.go) and the choice of a driver
// (choose.go).
//
// serve keeps a store open (serve.go, service.go) and opens doors to it
// (doors.go). The command line has a door too, the socket ROOT/control.sock:
// withStore (open.go) finds the server and hands the command line over with its
// streams (handover.go), and the server runs the same verb on its own store
// (control.go). frame.go has what goes over the socket.
//
// Words: stdout is data, stderr is for people. With --json a verb prints one
// document of the shape that docs/cli.md gives for it, and an error is one JSON
// line on stderr. A verb never prints outside of its app's streams, never exits
// the process, and holds no state between two calls of run, so that tests call
// it in process.
//
// The package knows no kernel interface: drivers are handed to the store as
// snapshot.Kind values, and that is all that it sees of them. thin alone looks
// below the store, through thinpool, which reads any pool's metadata.
package main
