package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"
)

// table writes rows under a header, in columns.
func table(w io.Writer, header []string, rows [][]string) {
	tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		fmt.Fprintln(tw, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	_ = tw.Flush() // into a buffer
}

// short is the beginning of a digest that people are shown: 12 hex digits, as
// docker shows them. Docker's own ids are shortened too; other names stay as they are.
func short(name string) string {
	if id, ok := strings.CutPrefix(name, dockerPrefix); ok && len(id) >= 64 && isHex(id[:64]) {
		return dockerPrefix + id[:12] + id[64:]
	}
	d := digest.Digest(name)
	if d.Validate() != nil {
		return name
	}
	return d.Encoded()[:12]
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// ago is how long ago something happened, in words.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return humanize.Time(t)
}

// clip shortens a text to n characters and keeps it on one line.
func clip(s string, n int) string {
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) <= n {
		return string(r)
	}
	return string(r[:n-1]) + "…"
}

// orDash is s, or "-" in its place, so that columns never are empty.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// orEmpty makes a nil slice an empty one: JSON lists are never null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func join(names []string) string { return strings.Join(names, ", ") }
