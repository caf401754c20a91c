// Package matrix runs workloads on peers, side by side: on one disk, in one run,
// in turns.
//
// Words: a workload is what is done, named W1 to W14 as docs/performance.md lists
// them; a peer is who does it (package peers); a stand is one peer's place in one
// workload, with storage of its own, made for the workload and removed after it; a
// round is a workload done once by one peer.
//
// Invariants: in a round number all peers take their turn, and another begins each
// time. Rounds before the recorded ones warm everything up. What a round makes it
// removes, and all that it wrote is on disk before the next one's turn. Ratios are of
// one run. What cannot run on this machine is in the report with the reason, and is an
// error if it was asked for by name. Nothing stays behind: no file, mount or device,
// after errors and interruptions too.
//
// Counts stand beside times: those of the disks in every round, those of system calls
// of one operation in a child under strace(1) afterwards, since being traced takes time.
package matrix
