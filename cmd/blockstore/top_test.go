package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

func TestTopRates(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	seen := func(title string, added int64, source string, io snapshot.IO) topSeen {
		return topSeen{title: title, usage: snapshot.Usage{Added: added, Exact: true}, device: 7, source: source, io: io}
	}
	before := &topLook{at: start, rows: map[snapshot.VolumeID]topSeen{
		20: seen("steady", 1000, "device", snapshot.IO{Reads: 10, ReadBytes: 1000, Writes: 5, WrittenBytes: 500}),
		21: seen("shrank", 5000, "cgroup", snapshot.IO{}),
		22: seen("again", 10, "device", snapshot.IO{Reads: 100}),
		23: seen("blind", 10, "", snapshot.IO{}),
		24: seen("gone", 10, "device", snapshot.IO{}),
	}}
	now := &topLook{at: start.Add(2 * time.Second), driver: "devicemapper", all: 6, rows: map[snapshot.VolumeID]topSeen{
		20: seen("steady", 3000, "device", snapshot.IO{Reads: 14, ReadBytes: 5000, Writes: 5, WrittenBytes: 2500}),
		21: seen("shrank", 1000, "cgroup", snapshot.IO{}),
		22: seen("again", 10, "device", snapshot.IO{Reads: 1}),
		23: seen("blind", 20, "", snapshot.IO{}),
		25: seen("new", 70, "device", snapshot.IO{Reads: 50}),
	}}
	out := now.since(before)
	sortTop(out.Containers, "io")
	names := func() string {
		var all []string
		for _, r := range out.Containers {
			all = append(all, r.Name)
		}
		return strings.Join(all, " ")
	}
	require.Equal(t, "steady shrank again blind new", names())
	require.Equal(t, &topIO{Source: "device", Reads: 2, ReadBytes: 2000, WrittenBytes: 1000}, out.Containers[0].IO)
	require.InDelta(t, 1000, *out.Containers[0].Growth, 0)
	require.InDelta(t, -2000, *out.Containers[1].Growth, 0)
	require.Nil(t, out.Containers[2].IO, "counts that began anew")
	require.Nil(t, out.Containers[3].IO)
	require.Nil(t, out.Containers[4].Growth, "not seen before")
	require.Nil(t, out.Containers[4].IO)
	for by, want := range map[string]string{
		"growth": "steady blind again shrank new", "used": "steady shrank new blind again", "name": "again blind new shrank steady",
	} {
		sortTop(out.Containers, by)
		require.Equal(t, want, names(), by)
	}
	sortTop(out.Containers, "io")
	var text bytes.Buffer
	writeTop(&text, out)
	require.Contains(t, text.String(), "5 of 6 containers in use, rates of 2.0 s\n")
	require.Regexp(t, `(?m)^steady +2\.9 KiB +1000 B/s +2\.0 KiB/s +1000 B/s +2\.0/s +0\.0/s +device$`, text.String())
	require.Regexp(t, `(?m)^shrank +1000 B +-2\.0 KiB/s +0 B/s`, text.String())
	require.Regexp(t, `(?m)^new +70 B +- +- +- +- +- +-$`, text.String())
	require.Contains(t, text.String(), "- not counted: on devicemapper")
}

// TestTopScreen: on a terminal one picture is written over the other, elsewhere they come one below the other.
func TestTopScreen(t *testing.T) {
	lines := func(w io.Writer) { fmt.Fprint(w, "one\ntwo\n") }
	var b bytes.Buffer
	plain := screen{}
	plain.write(&b, nil, lines)
	plain.write(&b, nil, lines)
	require.Equal(t, "one\ntwo\n\none\ntwo\n", b.String())
	b.Reset()
	over := screen{on: true}
	over.write(&b, nil, lines)
	over.write(&b, nil, lines)
	require.Equal(t, "\x1b[2J\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J", b.String())
}

// TestCgroupsOf: a group counts for a container if nobody else is in it or below it.
func TestCgroupsOf(t *testing.T) {
	const host, web, db, dind = 1, 2, 3, 4
	require.Equal(t, map[uint64][]string{
		host: {"/dind-other/x/y", "/docker/db/helper", "/system.slice/docker.service"},
		web:  {"/docker/web", "/elsewhere"},
		db:   {"/docker/db/init"},
		dind: {"/dind"},
	}, cgroupsOf([]process{
		{host, "/"},
		{host, "/system.slice/docker.service"},
		{host, "/user.slice/shell"},
		{web, "/user.slice/shell"}, // chroot into it
		{web, "/docker/web"},
		{web, "/docker/web"},
		{web, "/docker/web/below"},
		{web, "/elsewhere"},
		{db, "/docker/db/init"},
		{db, "/docker/db"},
		{host, "/docker/db/helper"},
		{dind, "/dind/a"},
		{dind, "/dind"},
		{dind, "/dind-other/x"},
		{host, "/dind-other"},
		{host, "/dind-other/x/y"},
	}))
}

func TestCgroupIO(t *testing.T) {
	root := t.TempDir()
	for group, text := range map[string]string{
		"a":   "8:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0\n7:3 rbytes=1 wbytes=1 rios=1 wios=1\n8:16 \n259:0 rbytes=7 wbytes=0 rios=1 wios=0\n",
		"b/c": "8:0 rbytes=10 wbytes=x rios=1 cost.usage=5\nnonsense\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, group), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(root, group, "io.stat"), []byte(text), 0o600))
	}
	disks := []uint64{unix.Mkdev(8, 0), unix.Mkdev(8, 16), unix.Mkdev(259, 0)}
	io, ok := cgroupIO(root, []string{"/a", "/b/c"}, disks)
	require.True(t, ok)
	require.Equal(t, snapshot.IO{Reads: 3, ReadBytes: 117, Writes: 2, WrittenBytes: 200}, io)
	_, ok = cgroupIO(root, nil, disks)
	require.False(t, ok, "no group of its own")
	_, ok = cgroupIO(root, []string{"/a", "/none"}, disks)
	require.False(t, ok, "a kernel that does not count")
}

func TestWholeDisk(t *testing.T) {
	sys := t.TempDir()
	disk := filepath.Join(sys, "devices", "sda")
	require.NoError(t, os.MkdirAll(filepath.Join(disk, "sda2"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(disk, "dev"), []byte("8:0\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(disk, "sda2", "partition"), []byte("2\n"), 0o600))
	require.NoError(t, os.Symlink(filepath.Join(disk, "sda2"), filepath.Join(sys, "8:2")))
	require.NoError(t, os.Symlink(disk, filepath.Join(sys, "8:0")))
	for from, to := range map[uint32]uint32{2: 0, 0: 0, 5: 5} {
		require.Equal(t, unix.Mkdev(8, to), wholeDisk(sys, unix.Mkdev(8, from)))
	}
}

// TestProcesses: a process of ours is found by its root directory's device and its group, if there are groups of version 2.
func TestProcesses(t *testing.T) {
	var st unix.Stat_t
	require.NoError(t, unix.Stat("/", &st))
	proc := t.TempDir()
	require.NoError(t, os.Symlink("/proc/self", filepath.Join(proc, strconv.Itoa(os.Getpid()))))
	require.NoError(t, os.MkdirAll(filepath.Join(proc, "17"), 0o700)) // it has just ended
	made := filepath.Join(proc, "18")
	require.NoError(t, os.MkdirAll(filepath.Join(made, "root"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(made, "cgroup"), []byte("4:memory:/v1\n0::/docker/web\n"), 0o600))
	var below unix.Stat_t
	require.NoError(t, unix.Stat(made, &below))
	all := processes(proc)
	require.Contains(t, all, process{device: below.Dev, cgroup: "/docker/web"})
	raw, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	if strings.Contains("\n"+string(raw), "\n0::") {
		require.Len(t, all, 2)
	} else {
		require.Len(t, all, 1)
	}
}
