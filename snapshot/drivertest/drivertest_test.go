package drivertest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot/drivertest"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

func factory(k *dirdriver.Kind) drivertest.Factory {
	const copies = "its volumes are directories and its snapshots copies"
	return drivertest.Factory{
		Kind: k, Scale: 10,
		Unsupported: map[drivertest.Ability]string{
			drivertest.SizeLimit: copies, drivertest.PointInTime: copies, drivertest.SealedByKernel: copies,
		},
	}
}

func TestConformance(t *testing.T) {
	k := dirdriver.New()
	drivertest.Run(t, factory(k))
	require.Empty(t, k.Faults.Violations(), "breaches of the driver contract by the store")
}

func TestCrash(t *testing.T) { drivertest.RunCrash(t, factory(dirdriver.New())) }

func BenchmarkStore(b *testing.B) { drivertest.Bench(b, factory(dirdriver.New())) }

func TestCounts(t *testing.T) {
	calls := drivertest.RunCounts(t, factory(dirdriver.New()))
	require.Equal(t, drivertest.Tally{"mount": 1}, calls["mount"])
	require.Equal(t, drivertest.Tally{"umount2": 1}, calls["unmount"])
}
