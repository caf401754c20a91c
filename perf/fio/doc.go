// Package fio runs fio(1) on job files that are in this program, and reads what it
// says. The jobs are docs/performance.md's: a database's small durable writes, a queue
// of writes, and a steady load.
package fio
