package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"

	"blockstore.dev/blockstore/perf/chart"
	"blockstore.dev/blockstore/perf/figures"
)

// writeCharts makes a directory hold the charts and no other.
func writeCharts(dir string) error {
	pictures, err := figures.Pictures()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.png"))
	for _, file := range old {
		if _, ok := pictures[filepath.Base(file)]; !ok {
			err = errors.Join(err, os.Remove(file))
		}
	}
	for name, drawing := range pictures {
		err = errors.Join(err, writeChart(filepath.Join(dir, name), drawing))
	}
	return err
}

func writeChart(file string, drawing chart.Drawing) error {
	if have, err := os.ReadFile(file); err == nil && figures.Shows(have, drawing) {
		return nil
	}
	var b bytes.Buffer
	if err := drawing.PNG(&b); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}
