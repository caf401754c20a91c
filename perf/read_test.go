package perf

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRead(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, exampleReport().WriteJSON(&b))
	whole := b.String()
	back, err := Read(strings.NewReader(whole))
	require.NoError(t, err)
	assert.Equal(t, exampleReport(), back)

	for n := range strings.TrimSpace(whole) {
		_, err := Read(strings.NewReader(whole[:n]))
		require.ErrorIs(t, err, ErrNotReport, "cut after %d bytes", n)
	}
	failure := errors.New("the disk is gone")
	_, err = Read(iotest.ErrReader(failure))
	assert.ErrorIs(t, err, failure)
}

// TestReadHostile: one error that says what is wrong.
func TestReadHostile(t *testing.T) {
	const columns = `"columns":[{"name":"a"}]`
	tests := map[string]struct{ text, says string }{
		"another's JSON":        {`[{"name":"x"}]`, "cannot unmarshal"},
		"no rows":               {`{` + columns + `}`, "no rows"},
		"no columns":            {`{"rows":[{"name":"r","unit":"count"}]}`, "no columns"},
		"a row that is null":    {`{` + columns + `,"rows":[null]}`, "no name"},
		"a row twice":           {`{` + columns + `,"rows":[{"name":"r","unit":"count"},{"name":"r","unit":"count"}]}`, "twice"},
		"a column twice":        {`{"columns":[{"name":"a"},{"name":"a"}],"rows":[{"name":"r","unit":"count"}]}`, "twice"},
		"an unknown unit":       {`{` + columns + `,"rows":[{"name":"r","unit":"miles"}]}`, `"miles" is unknown`},
		"an unknown column":     {`{` + columns + `,"rows":[{"name":"r","unit":"count","samples":{"b":[1]}}]}`, "no column"},
		"a sample out of range": {`{` + columns + `,"rows":[{"name":"r","unit":"count","samples":{"a":[1e300]}}]}`, "out of range"},
		"a sample too great":    {`{` + columns + `,"rows":[{"name":"r","unit":"count","samples":{"a":[1e999]}}]}`, "cannot unmarshal"},
		"many rows":             {`{` + columns + `,"rows":[` + strings.Repeat(`null,`, maxRows) + `null]}`, "more than 4096 rows"},
		"deep nesting":          {strings.Repeat("[", 1<<20), "exceeded max depth"},
		"nothing":               {``, "unexpected end"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Read(strings.NewReader(test.text))
			require.ErrorIs(t, err, ErrNotReport)
			assert.ErrorContains(t, err, test.says)
		})
	}
}

// TestReadEndless: a file without end ends in an error.
func TestReadEndless(t *testing.T) {
	_, err := Read(endless{})
	assert.ErrorIs(t, err, ErrNotReport)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

var _ io.Reader = endless{}
