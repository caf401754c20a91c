package dm

import (
	"testing"

	"blockstore.dev/blockstore/ioctl"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestListOnOldAndNewKernels(t *testing.T) {
	for name, change := range map[string]func(*fakeKernel){
		"filters and uuids":     func(*fakeKernel) {},
		"no filter":             func(k *fakeKernel) { k.version[1] = 44 },
		"no uuids":              func(k *fakeKernel) { k.version[1], k.noUUIDs = 37, true },
		"neither events either": func(k *fakeKernel) { k.version[1], k.noListTail = 27, true },
	} {
		t.Run(name, func(t *testing.T) {
			kernel := newFake()
			change(kernel)
			c, err := newClient(kernel, Options{})
			require.NoError(t, err)
			c.run = t.TempDir()
			for _, device := range [][2]string{{"b-two", "ID-2"}, {"b-one", "ID-1"}, {"b-bare", ""}, {"c", "ID-3"}, {"b-other", "XX"}} {
				addDevice(t, c, device[0], device[1])
			}
			names := func(prefix Prefix) (found []string) {
				devices, err := c.List(t.Context(), prefix)
				require.NoError(t, err)
				for _, d := range devices {
					require.False(t, d.Dev.IsZero())
					found = append(found, d.Name+"/"+d.UUID)
				}
				return found
			}
			require.Equal(t, []string{"b-bare/", "b-one/ID-1", "b-other/XX", "b-two/ID-2", "c/ID-3"}, names(Prefix{}))
			require.Equal(t, []string{"b-one/ID-1", "b-two/ID-2"}, names(Prefix{Name: "b-", UUID: "ID-"}))
			require.Equal(t, []string{"c/ID-3"}, names(Prefix{UUID: "ID-3"}))
			require.Empty(t, names(Prefix{Name: "none"}))
		})
	}
}

func TestListIsOneCall(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	for _, name := range []string{"a", "b", "c"} {
		addDevice(t, c, name, "")
	}
	kernel.calls = nil
	_, err := c.List(t.Context(), Prefix{})
	require.NoError(t, err)
	require.Equal(t, []string{"LIST_DEVICES"}, kernel.calls)
}

// TestListSkipsWhatVanishes: on an old kernel a device can go between list and status.
func TestListSkipsWhatVanishes(t *testing.T) {
	c, kernel := fakeClient(t, Options{})
	kernel.noUUIDs = true
	addDevice(t, c, "a", "")
	addDevice(t, c, "b", "")
	kernel.fails[ioctl.DM_DEV_STATUS_CMD] = []error{unix.ENXIO}
	devices, err := c.List(t.Context(), Prefix{})
	require.NoError(t, err)
	require.Len(t, devices, 1)
	kernel.fails[ioctl.DM_DEV_STATUS_CMD] = []error{unix.EIO}
	_, err = c.List(t.Context(), Prefix{})
	require.ErrorIs(t, err, unix.EIO)
}
