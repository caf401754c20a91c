// Package dm is a device-mapper client: it makes, loads, suspends, resumes, renames and
// removes devices, reads tables and status, sends messages and watches events, by the
// kernel's ioctls alone. It needs neither libdevmapper nor dmsetup nor cgo.
package dm
