package dm

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"blockstore.dev/blockstore/ioctl"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// watched is a watcher that has had its first look.
func watched(t *testing.T, prefix Prefix) (*Client, *fakeKernel, *Watcher) {
	t.Helper()
	c, kernel := fakeClient(t, Options{})
	w, err := c.Watch(prefix)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	changes, err := w.Next(t.Context())
	require.NoError(t, err)
	require.Empty(t, changes)
	return c, kernel, w
}

// next starts Next and returns its result's channel once it waits.
func next(ctx context.Context, w *Watcher) chan struct {
	changes []Change
	err     error
} {
	result := make(chan struct {
		changes []Change
		err     error
	}, 1)
	go func() {
		changes, err := w.Next(ctx)
		result <- struct {
			changes []Change
			err     error
		}{changes, err}
	}()
	synctest.Wait()
	return result
}

func TestWatchWaitsForEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kernel, w := watched(t, Prefix{Name: "our-"})
		result := next(t.Context(), w)
		addDevice(t, c, "foreign", "")
		synctest.Wait()
		require.Empty(t, result, "other devices do not end the wait")
		addDevice(t, c, "our-a", "")
		got := <-result
		require.NoError(t, got.err)
		require.Len(t, got.changes, 1)
		require.Equal(t, Added, got.changes[0].Kind)
		require.Equal(t, "our-a", got.changes[0].Device.Name)

		result = next(t.Context(), w)
		kernel.targetEvent("our-a")
		got = <-result
		require.Equal(t, Event, got.changes[0].Kind)
		require.Equal(t, uint32(1), got.changes[0].Device.EventNr)
	})
}

func TestWatchArmsBeforeItLists(t *testing.T) {
	_, kernel, w := watched(t, Prefix{})
	require.Equal(t, []string{"DEV_ARM_POLL", "LIST_DEVICES"}, kernel.calls)
	kernel.targetEvent("none")
	require.NoError(t, w.Close())
}

func TestWatchSeesWhatHappenedBetweenCalls(t *testing.T) {
	c, _, w := watched(t, Prefix{})
	addDevice(t, c, "a", "ID-A")
	addDevice(t, c, "b", "")
	changes, err := w.Next(t.Context())
	require.NoError(t, err)
	require.Len(t, changes, 2)
	require.NoError(t, c.Rename(t.Context(), "a", "z"))
	_, err = c.Remove(t.Context(), Name("b"), RemoveOptions{})
	require.NoError(t, err)
	changes, err = w.Next(t.Context())
	require.NoError(t, err)
	require.Len(t, changes, 2)
	require.Equal(t, Removed, changes[0].Kind)
	require.Equal(t, "b", changes[0].Device.Name)
	require.Equal(t, Renamed, changes[1].Kind)
	require.Equal(t, "a", changes[1].Previous.Name)
	require.Equal(t, "z", changes[1].Device.Name)
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, w := watched(t, Prefix{})
		why := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := next(ctx, w)
		cancel(why)
		require.ErrorIs(t, (<-result).err, why)
		_, err := w.Next(ctx)
		require.ErrorIs(t, err, why)

		result = next(t.Context(), w) // a wait that was cancelled does not end the next one
		require.Empty(t, result)
		addDevice(t, c, "a", "")
		require.NoError(t, (<-result).err)

		result = next(t.Context(), w)
		require.NoError(t, w.Close())
		require.ErrorIs(t, (<-result).err, ErrClosed)
	})
}

func TestWatchErrors(t *testing.T) {
	c, kernel, w := watched(t, Prefix{})
	for _, command := range []uint32{ioctl.DM_DEV_ARM_POLL_CMD, ioctl.DM_LIST_DEVICES_CMD} {
		kernel.fails[command] = []error{unix.ENOMEM}
		_, err := w.Next(t.Context())
		require.ErrorIs(t, err, unix.ENOMEM)
	}
	_, err := c.Watch(Prefix{Name: "a\x00"})
	require.ErrorIs(t, err, ErrInvalid)
	c.version.Minor = 36
	_, err = c.Watch(Prefix{})
	require.ErrorIs(t, err, ErrNotSupported)
}

func TestCompare(t *testing.T) {
	n := Number{254, 1}
	for name, c := range map[string]struct {
		before, now Device
		want        []ChangeKind
	}{
		"same":                {Device{Name: "a", Dev: n}, Device{Name: "a", Dev: n}, nil},
		"events":              {Device{Name: "a", Dev: n, EventNr: 1}, Device{Name: "a", Dev: n, EventNr: 5}, []ChangeKind{Event}},
		"renamed":             {Device{Name: "a", UUID: "U", Dev: n}, Device{Name: "b", UUID: "U", Dev: n}, []ChangeKind{Renamed}},
		"renamed with event":  {Device{Name: "a", UUID: "U", Dev: n}, Device{Name: "b", UUID: "U", Dev: n, EventNr: 1}, []ChangeKind{Renamed, Event}},
		"got a uuid":          {Device{Name: "a", Dev: n}, Device{Name: "a", UUID: "U", Dev: n}, []ChangeKind{Renamed}},
		"number used again":   {Device{Name: "a", UUID: "U", Dev: n}, Device{Name: "a", UUID: "V", Dev: n}, []ChangeKind{Removed, Added}},
		"same, younger":       {Device{Name: "a", Dev: n, EventNr: 2}, Device{Name: "a", Dev: n}, []ChangeKind{Removed, Added}},
		"other name, no uuid": {Device{Name: "a", Dev: n}, Device{Name: "b", Dev: n}, []ChangeKind{Removed, Added}},
	} {
		var kinds []ChangeKind
		for _, change := range compare(map[Number]Device{n: c.before}, []Device{c.now}) {
			kinds = append(kinds, change.Kind)
		}
		require.Equal(t, c.want, kinds, name)
	}
	require.Equal(t, "renamed", Renamed.String())
	require.Equal(t, "9", ChangeKind(9).String())
}
