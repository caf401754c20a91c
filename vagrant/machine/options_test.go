package machine

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// plain is a kind of machine without anything of its own.
func plain() Kind { return Kind{Name: "plain", MaxDisks: 3} }

func TestParseSize(t *testing.T) {
	for _, test := range []struct {
		in   string
		want int64 // 0: refused
	}{
		{"512", 512},
		{"4K", 4 << 10},
		{"64M", 64 << 20},
		{"2G", 2 << 30},
		{"1T", 1 << 40},
		{"", 0},
		{"G", 0},
		{"-1", 0},
		{"0", 0},
		{"2GG", 0},
		{"2g", 0},
		{"1.5G", 0},
		{"9999999999T", 0},
	} {
		t.Run(test.in, func(t *testing.T) {
			got, err := parseSize(test.in)
			if test.want == 0 {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
}

func TestParseOptions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(file, []byte("disk"), 0o600))
	t.Setenv("BSTEST_HERE", "yes")
	o, err := parseOptions(plain(), []string{
		"--mem", "1G", "--disk", "2G", "--disk=64M", "--disk", file, "--share", dir, "--timeout", "30s", "--timer-slack", "1ms",
		"-e", "A=b=c", "-e", "BSTEST_HERE", "-e", "BSTEST_NOT_HERE", "--", "sh", "-c", "true",
	}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, []string{"sh", "-c", "true"}, o.Command)
	assert.Equal(t, []Disk{{Size: 2 << 30}, {Size: 64 << 20}, {File: file}}, o.Disks)
	assert.Equal(t, []string{dir}, o.Shares)
	assert.Equal(t, []string{"A=b=c", "BSTEST_HERE=yes"}, o.Env)
	assert.Equal(t, 30*time.Second, o.Timeout)
	assert.Equal(t, time.Millisecond, o.Slack)
	assert.Equal(t, int64(1<<30), o.Memory)
}

func TestParseOptionsRefuses(t *testing.T) {
	tooMany := []string{}
	for range plain().MaxDisks + 1 {
		tooMany = append(tooMany, "--disk=1M")
	}
	for _, test := range []struct {
		name string
		args []string
	}{
		{"no command", []string{"--mem", "1G"}},
		{"unknown flag", []string{"--nosuch", "--", "true"}},
		{"missing disk", []string{"--disk", "/nosuch/disk", "--", "true"}},
		{"a directory as disk", []string{"--disk", t.TempDir(), "--", "true"}},
		{"bad size", []string{"--disk", "big", "--", "true"}},
		{"too many disks", append(tooMany, "--", "true")},
		{"a negative timer slack", []string{"--timer-slack", "-1ms", "--", "true"}},
		{"no time", []string{"--timeout", "0s", "--", "true"}},
		{"missing share", []string{"--share", t.TempDir() + "/nosuch", "--", "true"}},
		{"the root as share", []string{"--share", "/", "--", "true"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseOptions(plain(), test.args, io.Discard)
			require.Error(t, err)
		})
	}
	_, err := parseOptions(plain(), []string{"--help"}, io.Discard)
	require.ErrorIs(t, err, flag.ErrHelp)
}
