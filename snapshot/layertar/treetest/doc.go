// Package treetest compares directory trees in tests: everything that an image
// layer can say about a file, and nothing that it cannot (inode numbers, change times).
package treetest
