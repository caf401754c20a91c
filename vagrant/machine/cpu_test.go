package machine

import (
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestClaimProcessor(t *testing.T) {
	var allowed unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &allowed))
	name := "bstest-" + uuid.NewString()
	var had []*processor
	for range allowed.Count() {
		p, err := claimProcessor(name)
		require.NoError(t, err)
		require.NotNil(t, p)
		assert.True(t, allowed.IsSet(p.number))
		for _, other := range had {
			assert.NotEqual(t, other.number, p.number)
		}
		had = append(had, p)
	}
	none, err := claimProcessor(name)
	require.NoError(t, err)
	assert.Nil(t, none)
	require.NoError(t, none.release())

	require.NoError(t, had[0].release())
	again, err := claimProcessor(name)
	require.NoError(t, err)
	assert.Equal(t, had[0].number, again.number)
	for _, p := range append(had[1:], again) {
		require.NoError(t, p.release())
	}
}

func TestInheritedProcessor(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := claimProcessor("bstest-" + uuid.NewString())
	require.NoError(t, err)
	var before, after unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &before))
	var out strings.Builder
	cmd := exec.Command("sed", "-n", `s/^Cpus_allowed_list:\s*//p`, "/proc/self/status")
	cmd.Stdout = &out
	require.NoError(t, p.inherited(cmd.Start))
	require.NoError(t, cmd.Wait())
	assert.Equal(t, strconv.Itoa(p.number), strings.TrimSpace(out.String()))
	require.NoError(t, unix.SchedGetaffinity(0, &after))
	assert.Equal(t, before, after)
	require.NoError(t, p.release())
}
