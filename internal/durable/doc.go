// Package durable waits until the names in a directory are on the disk.
package durable
