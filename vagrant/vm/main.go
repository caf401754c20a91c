package main

import (
	"os"

	"blockstore.dev/blockstore/vagrant/machine"
)

func main() {
	if work := os.Getenv(serviceVar); work != "" {
		service(work)
	}
	o := &ownOptions{accel: "auto"}
	machine.Main(machine.Kind{
		Name: "vm", MaxDisks: maxDisks, Disks: "/dev/vda, /dev/vdb, ...",
		AddFlags: o.addFlags, Boot: o.boot, Guest: guest,
	})
}
