package drivertest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// benchWriter measures what somebody waits who makes, fills, syncs and removes files of 4 KiB in a container, alone and while the
// container's changes are asked for, again and again. Both take turns; that of a benchmark's iteration is writes of each.
func (e *env) benchWriter(b *testing.B, files, writes int) {
	layer := e.layer("", func(dir string) { manyFiles(e, dir, files, 1) })
	e.create("written", layer.Name)
	dir := e.mount("written")
	var alone, accompanied, asked []time.Duration
	b.ResetTimer()
	for i := range b.N {
		for j := range writes {
			alone = append(alone, timed(b, func() error { return writeDurably(filepath.Join(dir, fmt.Sprintf("alone-%d-%d", i, j))) }))
		}
		end := beside(func(stop chan struct{}) error {
			return untilClosed(stop, func() error {
				begun := time.Now()
				_, err := e.s.Changes(e.ctx(), "written")
				asked = append(asked, time.Since(begun))
				return err
			})
		})
		for j := range writes {
			accompanied = append(accompanied, timed(b, func() error { return writeDurably(filepath.Join(dir, fmt.Sprintf("beside-%d-%d", i, j))) }))
		}
		require.NoError(b, end())
	}
	b.StopTimer()
	for name, all := range map[string][]time.Duration{"alone": alone, "beside": accompanied, "changes": asked} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Nanoseconds()), name+"-median-ns")
		b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds()), name+"-p99-ns")
		b.ReportMetric(float64(all[len(all)-1].Nanoseconds()), name+"-longest-ns")
	}
	b.ReportMetric(float64(len(asked))/float64(b.N), "changes/op")
}

func writeDurably(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(path))
}
