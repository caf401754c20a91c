package main

import (
	"io"
	"unicode/utf8"
)

// leaf is one line of a tree: its columns, and what hangs below it.
type leaf struct {
	columns []string
	below   []*leaf
}

// maxIndent is how deep, in columns, a tree is drawn before a chain goes straight
// down: there are images of hundreds of layers, and screens of 80 columns.
const maxIndent = 32

// drawTree writes the leaves under a header; the first column is drawn with box
// characters. An only child deeper than maxIndent is drawn straight below its
// parent, marked with "┆".
func drawTree(w io.Writer, header []string, roots []*leaf) {
	var rows [][]string
	for _, r := range roots {
		rows = appendLeaf(rows, r, "", "")
	}
	table(w, header, rows)
}

// appendLeaf adds a leaf whose own line begins with first, and the lines of all
// below it, which begin with rest.
func appendLeaf(rows [][]string, l *leaf, first, rest string) [][]string {
	row := append([]string(nil), l.columns...)
	row[0] = first + row[0]
	rows = append(rows, row)
	for i, c := range l.below {
		switch {
		case len(l.below) == 1 && utf8.RuneCountInString(rest) >= maxIndent:
			rows = appendLeaf(rows, c, rest+"┆ ", rest)
		case i < len(l.below)-1:
			rows = appendLeaf(rows, c, rest+"├─", rest+"│ ")
		default:
			rows = appendLeaf(rows, c, rest+"└─", rest+"  ")
		}
	}
	return rows
}
