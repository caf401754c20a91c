package main

import (
	"flag"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
	t.Setenv("BSTEST_HERE", "yes")
	o, err := parseOptions([]string{
		"--mem", "1G", "--disk", "2G", "--disk=64M", "--share", dir, "--timeout", "30s",
		"-e", "A=b=c", "-e", "BSTEST_HERE", "-e", "BSTEST_NOT_HERE", "--", "sh", "-c", "true",
	}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, []string{"sh", "-c", "true"}, o.command)
	assert.Equal(t, []int64{2 << 30, 64 << 20}, o.disks)
	assert.Equal(t, []string{dir}, o.shares)
	assert.Equal(t, []string{"A=b=c", "BSTEST_HERE=yes"}, o.env)
	assert.Equal(t, 30*time.Second, o.timeout)
	assert.Equal(t, int64(1<<30), o.memory)
}

func TestParseOptionsRefuses(t *testing.T) {
	tooMany := []string{}
	for range maxDisks + 1 {
		tooMany = append(tooMany, "--disk=1M")
	}
	for _, test := range []struct {
		name string
		args []string
	}{
		{"no command", []string{"--mem", "1G"}},
		{"unknown flag", []string{"--nosuch", "--", "true"}},
		{"bad size", []string{"--disk", "big", "--", "true"}},
		{"too many disks", append(tooMany, "--", "true")},
		{"no time", []string{"--timeout", "0s", "--", "true"}},
		{"missing share", []string{"--share", t.TempDir() + "/nosuch", "--", "true"}},
		{"the root as share", []string{"--share", "/", "--", "true"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseOptions(test.args, io.Discard)
			require.Error(t, err)
		})
	}
	_, err := parseOptions([]string{"--help"}, io.Discard)
	require.ErrorIs(t, err, flag.ErrHelp)
}
