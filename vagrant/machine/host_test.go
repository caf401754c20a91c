package machine

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestStillborn: a machine whose kernel panics is booted once more where its command had not started, and never otherwise.
func TestStillborn(t *testing.T) {
	work := t.TempDir()
	m := instance{kind: "plain", work: work}
	console := &tail{limit: consoleTail}
	ended := func(text string) error {
		_, err := console.Write([]byte(text))
		require.NoError(t, err)
		status, err := m.result(nil, &exec.ExitError{}, console)
		require.Equal(t, ExitMachine, status)
		return err
	}
	died := ended("Linux\n")
	require.False(t, stillborn(work, died), "a machine that ended without a panic")
	panicked := ended("Kernel panic - not syncing\n")
	require.ErrorContains(t, panicked, "the machine ended, since its kernel panicked; end of the console:\n\tLinux")
	require.True(t, stillborn(work, panicked))
	require.True(t, stillborn(work, errors.Join(panicked, os.ErrClosed)))
	require.False(t, stillborn(work, nil))
	require.NoError(t, os.WriteFile(filepath.Join(work, begunFile), nil, 0o600))
	require.False(t, stillborn(work, panicked), "its command may have done something")
}
