//go:build !cgo || !libbtrfs

package main

func kindsWithCgo() []kind { return nil }
