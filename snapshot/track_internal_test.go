package snapshot

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSince: a container began when it was made, on the layer that it stands on; what began in between a layer and a later one is
// not known to have done so later than the first stood still.
func TestSince(t *testing.T) {
	still := time.Unix(1000, 0)
	layer := Info{Name: "layer", Kind: KindLayer, Created: still}
	above := Info{Name: "above", Kind: KindLayer, Parent: "layer", Created: still.Add(time.Second)}
	box := func(parent string) Info {
		return Info{Name: "box", Kind: KindContainer, Parent: parent, Created: still.Add(time.Hour)}
	}
	require.Equal(t, still.Add(time.Hour), since(layer, box("layer")))
	require.Equal(t, still.Add(time.Hour), since(above, box("above")))
	require.Equal(t, still, since(layer, box("above")), "the layer between may have been written to from then on")
	require.Equal(t, still, since(layer, above))
	back := box("layer")
	back.Created = still.Add(-time.Hour)
	require.Equal(t, back.Created, since(layer, back), "a clock was set back: what was changed after that is compared in full")
}
