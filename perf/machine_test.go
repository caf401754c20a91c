package perf

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProcessor(t *testing.T) {
	tests := map[string]struct{ cpuinfo, want string }{
		"a machine": {"processor\t: 0\nmodel name\t: Abacus 3000\n\nprocessor\t: 1\nmodel name\t: other\n", "Abacus 3000"},
		"User Mode Linux": {
			"processor\t: 0\nvendor_id\t: User Mode Linux\nmodel name\t: UML\nmode\t\t: skas\nhost\t\t: Linux host 6.18 #1 SMP\n",
			"User Mode Linux on Linux host 6.18 #1 SMP",
		},
		"nothing": {"", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, processor(test.cpuinfo)) })
	}
}

func TestWhere(t *testing.T) {
	for where, m := range map[string]Machine{
		onThisKernel:                         {Processor: "Intel(R) Xeon(R) Processor"},
		"in User Mode Linux":                 {Processor: "User Mode Linux on Linux", UML: true},
		"in a virtual machine, by emulation": {Processor: "QEMU TCG CPU version 2.5+"},
	} {
		assert.Equal(t, where, m.Where())
		for _, title := range []string{"Side by side " + onThisKernel + ", zfs", "Side by side " + where + ", zfs"} {
			assert.Equal(t, "Side by side "+where+", zfs", (&Report{Title: title, Machine: m}).Heading())
		}
	}
}

func TestThisMachine(t *testing.T) {
	m, err := ThisMachine(t.TempDir())
	require.NoError(t, err)
	assert.NotEmpty(t, m.Kernel)
	assert.NotEmpty(t, m.Disk)
	assert.Positive(t, m.CPUs)
	assert.Positive(t, m.Memory)
}
