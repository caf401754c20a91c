package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWriteInside: what is measured really happens to the file.
func TestWriteInside(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	before := bytes.Repeat([]byte{'x'}, 1<<20)
	require.NoError(t, os.WriteFile(file, before, 0o600))

	var out bytes.Buffer
	require.NoError(t, writeInside([]string{"--file", file}, &out))
	var w written
	require.NoError(t, json.Unmarshal(out.Bytes(), &w))
	assert.Positive(t, w.First)
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	want := bytes.Clone(before)
	copy(want[len(want)/2:], "four")
	assert.True(t, bytes.Equal(want, after), "four bytes in the middle and nothing else")

	out.Reset()
	require.NoError(t, writeInside([]string{"--file", file, "--warm", "--overwrites", "20"}, &out))
	require.NoError(t, json.Unmarshal(out.Bytes(), &w))
	assert.Positive(t, w.Durable)
	assert.Positive(t, w.Batch)
	after, err = os.ReadFile(file)
	require.NoError(t, err)
	assert.Len(t, after, len(before))
	assert.GreaterOrEqual(t, bytes.Count(after, make([]byte, block)), 15, "blocks of zeros, but for places hit twice")
}

func TestWriteInsideMissingFile(t *testing.T) {
	require.ErrorIs(t, writeInside([]string{"--file", filepath.Join(t.TempDir(), "none")}, &bytes.Buffer{}), os.ErrNotExist)
}
