package main

import (
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
