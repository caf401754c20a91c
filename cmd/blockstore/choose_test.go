package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

// fakeKind is a driver that exists by name only.
type fakeKind struct {
	name    string
	missing error
}

func (k fakeKind) Name() string                { return k.name }
func (k fakeKind) Probe(context.Context) error { return k.missing }
func (k fakeKind) Init(context.Context, snapshot.InitOptions) (json.RawMessage, error) {
	return nil, errors.New("a fake has no store")
}

func (k fakeKind) Open(context.Context, snapshot.OpenOptions) (snapshot.Driver, error) {
	return nil, errors.New("a fake has no store")
}
func (k fakeKind) Destroy(context.Context, snapshot.OpenOptions) error { return nil }

// fakeApp runs on a machine that the test describes.
func fakeApp(fs string, kinds ...snapshot.Kind) (*app, *bytes.Buffer, *bytes.Buffer) {
	var out, errs bytes.Buffer
	return &app{
		stdin: &bytes.Buffer{}, stdout: &out, stderr: &errs, kinds: kinds,
		euid:   func() int { return 0 },
		fsType: func(string) (string, error) { return fs, nil },

		inherited: func() (map[string][]net.Listener, error) { return nil, nil },
	}, &out, &errs
}

func TestChoose(t *testing.T) {
	noDM := errors.New("no device-mapper in this kernel: modprobe dm_thin_pool")
	noBtrfs := errors.New("no btrfs in this kernel: modprobe btrfs")
	btrfs, zfs, dm := fakeKind{driverBtrfs, nil}, fakeKind{driverZFS, nil}, fakeKind{driverDM, nil}
	noneBtrfs, noneDM := fakeKind{driverBtrfs, noBtrfs}, fakeKind{driverDM, noDM}
	auto := wish{driver: driverAuto}
	tests := []struct {
		name  string
		fs    string
		kinds []snapshot.Kind
		wish  wish
		want  string
		why   []string
		is    error
		says  []string
	}{
		{name: "root on btrfs", fs: "btrfs", kinds: []snapshot.Kind{btrfs, dm}, wish: auto, want: driverBtrfs, why: []string{"auto: the root directory lies on btrfs"}},
		{name: "root on ext4, thin pools", fs: "ext4", kinds: []snapshot.Kind{btrfs, dm}, wish: auto, want: driverDM, why: []string{"loopback pool", "the root directory lies on ext4"}},
		{name: "root on ext4, no thin pools", fs: "ext4", kinds: []snapshot.Kind{btrfs, noneDM}, wish: auto, want: driverBtrfs, why: []string{"loopback file", "devicemapper: no device-mapper"}},
		{name: "root on ZFS", fs: "zfs", kinds: []snapshot.Kind{btrfs, dm}, wish: auto, want: driverDM, why: []string{"zfs: not in this version"}},
		{name: "root on ZFS, which is built in", fs: "zfs", kinds: []snapshot.Kind{btrfs, zfs, dm}, wish: auto, want: driverZFS, why: []string{"auto: the root directory lies on ZFS"}},
		{name: "ZFS elsewhere", fs: "ext4", kinds: []snapshot.Kind{btrfs, zfs, noneDM}, wish: auto, want: driverBtrfs, why: []string{"loopback file"}},
		{name: "a dataset is named", fs: "ext4", kinds: []snapshot.Kind{btrfs, zfs, dm}, wish: wish{driverAuto, "--dataset", driverZFS}, want: driverZFS, why: []string{"--dataset asks for it"}},
		{name: "root on btrfs that the kernel lost", fs: "btrfs", kinds: []snapshot.Kind{noneBtrfs, dm}, wish: auto, want: driverDM, why: []string{"no btrfs in this kernel"}},
		{name: "nothing", fs: "ext4", kinds: []snapshot.Kind{noneBtrfs, noneDM}, wish: auto, is: snapshot.ErrNotSupported, says: []string{noDM.Error(), noBtrfs.Error()}},
		{name: "no drivers at all", fs: "ext4", wish: auto, is: snapshot.ErrNotSupported, says: []string{"devicemapper: not in this version"}},
		{name: "named", fs: "btrfs", kinds: []snapshot.Kind{btrfs, dm}, wish: wish{driver: driverDM}, want: driverDM, why: []string{"named with --driver"}},
		{name: "named, cannot", fs: "ext4", kinds: []snapshot.Kind{btrfs, noneDM}, wish: wish{driver: driverDM}, is: snapshot.ErrNotSupported, says: []string{"devicemapper cannot run here", noDM.Error()}},
		{name: "named, not built in", fs: "zfs", kinds: []snapshot.Kind{btrfs, dm}, wish: wish{driver: driverZFS}, is: snapshot.ErrNotSupported, says: []string{"--driver zfs", "btrfs, devicemapper"}},
		{name: "asked for by a flag", fs: "btrfs", kinds: []snapshot.Kind{btrfs, dm}, wish: wish{driverAuto, "--fs", driverDM}, want: driverDM, why: []string{"--fs asks for it"}},
		{name: "flag of another driver", fs: "btrfs", kinds: []snapshot.Kind{btrfs, dm}, wish: wish{driverBtrfs, "--fs", driverDM}, is: nil, says: []string{"--fs is for --driver devicemapper, not for btrfs"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _, _ := fakeApp(tt.fs, tt.kinds...)
			c, err := a.choose(context.Background(), tt.wish)
			if tt.want == "" {
				require.Error(t, err)
				if tt.is != nil {
					require.ErrorIs(t, err, tt.is)
				}
				for _, s := range tt.says {
					require.Contains(t, err.Error(), s)
				}
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, c.kind.Name())
			for _, s := range tt.why {
				require.Contains(t, c.why, s)
			}
		})
	}
}

func TestFSName(t *testing.T) {
	require.Equal(t, "btrfs", fsName(0x9123683e))
	require.Equal(t, "zfs", fsName(0x2fc12fc1))
	require.Equal(t, "a file system of type 0x1234", fsName(0x1234))
	// As it is where statfs's type is a signed 32-bit number.
	btrfs := uint32(0x9123683e)
	require.Equal(t, "btrfs", fsName(int64(int32(btrfs))))
}

func TestFSTypeOfWhatIsNotMadeYet(t *testing.T) {
	here, err := fsType(t.TempDir())
	require.NoError(t, err)
	below, err := fsType(t.TempDir() + "/a/b/c")
	require.NoError(t, err)
	require.Equal(t, here, below)
}
