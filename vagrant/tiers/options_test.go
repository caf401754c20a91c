package main

import (
	"flag"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPackages: all of them in machines, which takes hours, are run only when that was asked for.
func TestPackages(t *testing.T) {
	o, err := parseOptions("host", nil)
	require.NoError(t, err)
	require.Equal(t, []string{"./..."}, o.packages)
	for _, args := range [][]string{nil, {"--log"}, {"--", "-test.v"}} {
		_, err := parseOptions("gotest", args)
		require.ErrorContains(t, err, "which packages")
	}
	o, err = parseOptions("gotest", []string{"--log", "./dm", "--", "-test.v"})
	require.NoError(t, err)
	require.Equal(t, []string{"./dm"}, o.packages)
	require.Equal(t, []string{"-test.v"}, o.testFlags)
}

// TestHelp: who asks for help gets it, and no error beside it.
func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"--help"}, {"-h"}, {"test", "--help"}} {
		require.ErrorIs(t, run(t.Context(), args), flag.ErrHelp, args)
	}
	require.ErrorContains(t, run(t.Context(), []string{"tset"}), `unknown verb "tset"; usage: tiers `)
}
