// Package machine is what the test machines have in common: their command
// line, their life on the host and the command's life inside. A kind of
// machine ([Kind]) says how its kernel is started and what its init mounts;
// ../uml and ../vm are the two.
//
// # Words
//
// The host is where a machine is asked for. A machine is one kernel that runs
// one command. The supervisor is process 1 of a PID namespace on the host,
// above the process or processes that are the machine. The guest is the
// machine's own process 1: the same program, started by the machine's kernel.
// The work directory is a temporary one on the host that both ends see.
//
// # Invariants
//
// When the program on the host has ended, by whatever way, no process of the
// machine lives; its work directory is gone too unless the program was killed
// or --keep given. Machines share nothing but what they read of the host, so
// any number can run side by side.
//
// # Exit status
//
// The command's own (128+N for signal N, 127 when it was not found); 124 when
// a time limit struck (--timeout, or --still for a command that writes nothing;
// what the machine's tasks were doing then goes to stderr), 125 when the machine did not boot or its kernel
// panicked (the end of its console then goes to stderr; where the command had not started it is booted again first), 2 for wrong usage.
// Stdout and stderr are the command's, apart and byte for byte.
package machine
