package thin

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/thinpool"
)

func TestTranslate(t *testing.T) {
	for name, c := range map[string]struct{ err, want error }{
		"needs check": {fmt.Errorf("%w: %w", thinpool.ErrNeedsCheck, thinpool.ErrReadOnly), snapshot.ErrCorrupt},
		"read-only":   {thinpool.ErrReadOnly, snapshot.ErrReadOnly},
		"unknown outcome of a full metadata": {
			fmt.Errorf("%w: %w", thinpool.ErrUnknownOutcome, thinpool.ErrReadOnly), snapshot.ErrReadOnly,
		},
		"busy":      {fmt.Errorf("%w: %w", thinpool.ErrBusy, &dm.Error{Kind: dm.ErrBusy, Errno: unix.EBUSY}), snapshot.ErrBusy},
		"full":      {fmt.Errorf("writing: %w", unix.ENOSPC), snapshot.ErrNoSpace},
		"worn out":  {thinpool.ErrWornOut, snapshot.ErrNoSpace},
		"not blank": {thinpool.ErrNotBlank, snapshot.ErrInvalid},
		"no kernel": {dm.ErrNotSupported, snapshot.ErrNotSupported},
	} {
		t.Run(name, func(t *testing.T) {
			err := translate(c.err)
			require.ErrorIs(t, err, c.want)
			require.ErrorIs(t, err, c.err, "the cause stays")
			require.Equal(t, c.err.Error(), err.Error(), "and so does the text")
		})
	}
	require.NoError(t, translate(nil))
}

func TestDeviceSize(t *testing.T) {
	for size, want := range map[int64]int64{0: 0, 1: 4096, 4096: 4096, 4097: 8192} {
		require.Equal(t, want, deviceSize(size))
	}
}
