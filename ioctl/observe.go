package ioctl

import (
	"sync/atomic"
	"time"
)

// An Observer is told of each ioctl: its request number, what the kernel said (nil or an errno) and how long it took. It
// is called by the goroutine that issued the ioctl, so it must be quick and safe for concurrent use. One that was
// interrupted and repeated is told each time.
type Observer func(request uintptr, err error, took time.Duration)

// observer is the one state of this package: an ioctl knows nothing but its descriptor, so there is no other place at
// which all of a process can be counted.
var observer atomic.Pointer[Observer]

// Observe has all ioctls of the process told to o from now on; nil ends that. There is one observer: the last. Ioctls on
// loop devices, which are rare, are not told. Without an observer an ioctl costs one load more, and no clock is read.
func Observe(o Observer) {
	if o == nil {
		observer.Store(nil)
		return
	}
	observer.Store(&o)
}

// noted tells the observer, if there is one, of an ioctl that began then.
func noted(o *Observer, request uintptr, err error, began time.Time) {
	if o != nil {
		(*o)(request, err, time.Since(began))
	}
}

// watching is the observer and, if there is one, the time.
func watching() (o *Observer, began time.Time) {
	if o = observer.Load(); o != nil {
		began = time.Now()
	}
	return o, began
}
