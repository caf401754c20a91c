package main

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestUndo: last first, once, and whatever fails in between.
func TestUndo(t *testing.T) {
	var u undo
	var order []string
	failure := errors.New("busy")
	add := func(what string, err error) {
		u.add(what, func() error {
			order = append(order, what)
			return err
		})
	}
	add("first", nil)
	add("second", failure)
	add("third", nil)
	err := u.run()
	require.ErrorIs(t, err, failure)
	assert.ErrorContains(t, err, "cleaning up second")
	assert.Equal(t, []string{"third", "second", "first"}, order)
	require.NoError(t, u.run())
}
