// Package treetest compares directory trees in tests: everything that an image
// layer can say about a file, and nothing that it cannot (inode numbers, change times). And
// it changes them by chance, as containers do (Mess).
package treetest
