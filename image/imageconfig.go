package image

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// maxLayers bounds an image. Docker's own limit is 125; the store goes to 300 and
// beyond.
const maxLayers = 1000

// configView is what blockstore reads of an image's configuration (OCI image-spec
// config.md; Docker's since 1.10). The configuration itself is kept byte for
// byte, so that its digest stays the image's id.
type configView struct {
	Created      lenientTime    `json:"created"`
	Author       string         `json:"author"`
	Architecture string         `json:"architecture"`
	OS           string         `json:"os"`
	Variant      string         `json:"variant"`
	RootFS       rootFS         `json:"rootfs"`
	History      []historyEntry `json:"history"`
}

type rootFS struct {
	Type    string          `json:"type"`
	DiffIDs []digest.Digest `json:"diff_ids"`
}

// historyEntry is one step of an image's making. The order of the fields is
// Docker's, so that configs made of Docker 1.9's images get the ids that Docker
// gives them.
type historyEntry struct {
	Created    lenientTime `json:"created"`
	Author     string      `json:"author,omitempty"`
	CreatedBy  string      `json:"created_by,omitempty"`
	Comment    string      `json:"comment,omitempty"`
	EmptyLayer bool        `json:"empty_layer,omitempty"`
}

// lenientTime is a time that may be written badly: early tools wrote empty
// strings. It is shown to people only, so what cannot be read is no time.
type lenientTime struct{ time.Time }

// UnmarshalJSON never fails.
func (t *lenientTime) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) != nil {
		return nil
	}
	if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
		t.Time = at
	}
	return nil
}

// parseConfig reads and checks an image's configuration.
func parseConfig(data []byte, member string) (configView, error) {
	var c configView
	if err := parseDocument(data, member, &c); err != nil {
		return c, err
	}
	if t := c.RootFS.Type; t != "layers" {
		return c, bad(ErrUnsupported, member, "root file system of type %q", t)
	}
	if os := c.OS; os != "" && !strings.EqualFold(os, "linux") {
		return c, bad(ErrUnsupported, member, "an image for %q, not for linux", os)
	}
	if n := len(c.RootFS.DiffIDs); n > maxLayers {
		return c, bad(ErrUnsupported, member, "%d layers are more than %d", n, maxLayers)
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := checkDigest(d, "DiffID", member); err != nil {
			return c, err
		}
	}
	return c, nil
}

// newArchiveImage makes an image of a configuration and the layers that go with
// its DiffIDs, one for one.
func newArchiveImage(config []byte, member string, layers []ArchiveLayer) (*ArchiveImage, error) {
	c, err := parseConfig(config, member)
	if err != nil {
		return nil, err
	}
	if len(layers) != len(c.RootFS.DiffIDs) {
		return nil, bad(ErrMalformed, member, "the config has %d DiffIDs, but its manifest names %d layers",
			len(c.RootFS.DiffIDs), len(layers))
	}
	for i, d := range c.RootFS.DiffIDs {
		layers[i].DiffID = d
	}
	return &ArchiveImage{ID: digest.FromBytes(config), Config: config, Created: c.Created.Time, Layers: layers}, nil
}

// configPlatform is the platform that a configuration tells.
func configPlatform(config []byte) platform {
	var p platform
	_ = json.Unmarshal(config, &p) // it was parsed before; a field of another type is no platform
	if p.OS == "" {
		p.OS = "linux"
	}
	return p
}
