package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSizesForPeople(t *testing.T) {
	require.Equal(t, "1.2 MiB", amount(1_258_291))
	require.Equal(t, "-1.2 MiB", amount(-1_258_291))
	require.Equal(t, "0 B", amount(0))
	require.Equal(t, "10 GiB", limit(10<<30))
	require.Equal(t, "none", limit(0))
	require.Equal(t, "50.0%", percent(1, 2))
	require.Equal(t, "-", percent(1, 0))
}
