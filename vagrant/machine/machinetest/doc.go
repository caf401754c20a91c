// Package machinetest is how the kinds of machines are tested: it builds their
// program, runs it, and sees to it that nothing of a machine is left.
package machinetest
