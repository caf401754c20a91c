// Package failpoint marks the steps between which a crash must do no harm.
//
// In an ordinary build Hit is empty. With the build tag failpoints, the
// environment variable BLOCKSTORE_FAILPOINT=N kills the process with SIGKILL at
// its Nth Hit (counted from 1), BLOCKSTORE_FAILPOINT=NAME at the first Hit of
// that name, and BLOCKSTORE_FAILPOINT_LOG=FILE appends the
// name of each Hit to a file, so that a test can run a command once to learn
// its steps and then once more for each of them.
//
// Leave plants a fault: with the build tag, BLOCKSTORE_FAILPOINT_LEAVE=NAME,... leaves
// the steps of these names out, so that a test can show that it would notice. They are
// what durability hangs on: "flush" of a layer's record and of a container's files
// before the commit that names them; "catalog.flush" of the commit itself; "ids.record",
// the record of volumes that are about to be made; "garbage.record", that of removals
// about to be done.
//
// Most bounds how many of the same thing are done, each of which has the same steps: with the
// build tag, BLOCKSTORE_FAILPOINT_MOST=N says how many where there would be more.
package failpoint
