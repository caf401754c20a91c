package main

import (
	"errors"
	"fmt"
	"os"

	"blockstore.dev/blockstore/perf/figures"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: readme README.md CHARTS")
		os.Exit(2)
	}
	if err := errors.Join(writeCharts(os.Args[2]), write(os.Args[1])); err != nil {
		fmt.Fprintln(os.Stderr, "readme:", err)
		os.Exit(1)
	}
}

func write(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	renewed, err := figures.Insert(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if renewed == string(text) {
		return nil
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0) // its mode stays
	if err != nil {
		return err
	}
	_, err = f.WriteString(renewed)
	return errors.Join(err, f.Close())
}
