package perf

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestUndo: last first, once, and whatever fails in between.
func TestUndo(t *testing.T) {
	var u Undo
	var order []string
	failure := errors.New("busy")
	add := func(what string, err error) {
		u.Add(what, func() error {
			order = append(order, what)
			return err
		})
	}
	add("first", nil)
	add("second", failure)
	add("third", nil)
	err := u.Run()
	require.ErrorIs(t, err, failure)
	assert.ErrorContains(t, err, "cleaning up second")
	assert.Equal(t, []string{"third", "second", "first"}, order)
	require.NoError(t, u.Run())
}
