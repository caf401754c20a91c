package main

import "blockstore.dev/blockstore/vagrant/machine"

func main() {
	machine.Main(machine.Kind{
		Name: "uml", MaxDisks: maxDisks, Disks: "/dev/ubda, /dev/ubdb, ...",
		Boot: boot, Guest: guest,
	})
}
