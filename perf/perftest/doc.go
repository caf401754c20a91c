// Package perftest is what the benchmarks' tests share: a place to work in, and a look for what a run leaves.
package perftest
