package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestQuicken: what fits a version of the kernel is changed, and what does not is said and left as it is.
func TestQuicken(t *testing.T) {
	const (
		memory = "static unsigned long fault_around_pages __read_mostly =\n\t65536 >> PAGE_SHIFT;\n"
		trap   = "\t\tfault = handle_mm_fault(vma, address, flags, NULL);\n\terr = 0;\n"
		stub   = "\t\tres = syscall_handler(fd_map);\n"
	)
	quicken, err := filepath.Abs("kernel/quicken")
	require.NoError(t, err)
	for _, c := range []struct {
		name    string
		sources map[string]string
		without []string
		changed []string
	}{
		{
			"sources without any of it",
			map[string]string{"arch/um/kernel/skas/stub.c": stub},
			[]string{"clocks", "CRC-32C", "faults", "descriptor", "waits"},
			nil,
		},
		{
			"sources in which one fits",
			map[string]string{"mm/memory.c": memory, "arch/um/kernel/trap.c": trap, "arch/um/kernel/skas/stub.c": stub},
			[]string{"clocks", "CRC-32C", "descriptor", "waits"},
			[]string{"mm/memory.c", "arch/um/kernel/trap.c"},
		},
		{
			"sources with two places for it",
			map[string]string{"mm/memory.c": memory, "arch/um/kernel/trap.c": trap + trap},
			[]string{"clocks", "CRC-32C", "faults", "descriptor", "waits"},
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range c.sources {
				require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o777))
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666))
			}
			cmd := exec.Command(quicken)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			said := strings.Split(strings.TrimSpace(string(out)), "\n")
			require.Len(t, said, len(c.without), string(out))
			for i, word := range c.without {
				assert.Contains(t, said[i], word)
			}
			for name, text := range c.sources {
				now, err := os.ReadFile(filepath.Join(dir, name))
				require.NoError(t, err)
				assert.Equal(t, slices.Contains(c.changed, name), text != string(now), name)
			}
		})
	}
}
