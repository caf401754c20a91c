// Package failpoint marks the steps between which a crash must do no harm.
//
// In an ordinary build Hit is empty. With the build tag failpoints, the
// environment variable BLOCKSTORE_FAILPOINT=N kills the process with SIGKILL at
// its Nth Hit (counted from 1), BLOCKSTORE_FAILPOINT=NAME at the first Hit of
// that name, and BLOCKSTORE_FAILPOINT_LOG=FILE appends the
// name of each Hit to a file, so that a test can run a command once to learn
// its steps and then once more for each of them.
package failpoint
