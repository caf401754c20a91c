// Package size reads sizes that people type, on the command line and in Docker's
// storage options.
package size
