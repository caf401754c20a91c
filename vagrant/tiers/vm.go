package main

import (
	"slices"
	"strings"
)

// vmKernel is Debian's kernel with ZFS in QEMU. By emulation one machine keeps about one of the host's processors busy,
// although it has two.
func vmKernel(o options) kernel {
	return kernel{tier: vmTier, program: o.vm, limit: o.machines, timeout: o.vmTimeout}
}

// vmSelection picks the tests that another tier skipped for want of what the
// virtual machine has, and that no tier ran if User Mode Linux has that too: for each
// package the expressions for -test.run, and the
// flags of its machine. Of the packages in whole it picks all.
func vmSelection(tiers []*tier, whole []string) (selection, flags map[string][]string) {
	selection, flags = map[string][]string{}, map[string][]string{}
	wants := map[string]bool{}
	for _, t := range tiers {
		for _, key := range sortedKeys(t.results) {
			r := t.results[key]
			all := slices.Contains(whole, key.pkg) && key.test != "" && !strings.Contains(key.test, "/")
			lacking := key.test != "" && r.outcome == skipped && wantsVM(r.reason) && !(wantsUML(r.reason) && ranAnywhere(tiers, key))
			if expression := runExpression(key.test); (all || lacking) && !slices.Contains(selection[key.pkg], expression) {
				selection[key.pkg] = append(selection[key.pkg], expression)
			}
			for _, word := range []string{"udev", "systemd"} {
				wants[key.pkg+" "+word] = wants[key.pkg+" "+word] || lacking && strings.Contains(r.reason, word)
			}
		}
	}
	for pkg := range selection {
		switch {
		case wants[pkg+" systemd"]:
			flags[pkg] = []string{"--systemd"}
		case wants[pkg+" udev"]:
			flags[pkg] = []string{"--udev"}
		}
	}
	return selection, flags
}

// ranAnywhere says whether a test was more than skipped.
func ranAnywhere(tiers []*tier, key testKey) bool {
	return slices.ContainsFunc(tiers, func(t *tier) bool {
		r, ok := t.results[key]
		return ok && r.outcome != skipped
	})
}
