package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"blockstore.dev/blockstore/snapshot"
)

// ConfigOptions describe a change of an image's configuration.
type ConfigOptions struct {
	Author, Message string
	// CreatedBy goes into the history as what made the layer.
	CreatedBy string
	// Changes are Dockerfile instructions: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL,
	// STOPSIGNAL, USER, VOLUME and WORKDIR.
	Changes []string
	// Created is the time of the new image; the zero time means now.
	Created time.Time
	// Platform is set where the parent has none; "" is this machine's.
	Platform string
}

// object is a JSON object of which only some keys are known.
type object map[string]json.RawMessage

// set gives a key a value.
func (o object) set(key string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	o[key] = data
	return nil
}

// NewConfig makes the config of an image that has one layer more than its
// parent: the layer's DiffID and a history entry are appended, everything else is
// kept, also what blockstore does not know. What tells how the parent itself was
// made (Docker's container and container_config) is left out. parent is nil for
// an image without one. It fits snapshot.CommitRequest.Config. Wrong options are
// snapshot.ErrInvalid.
func NewConfig(parent []byte, layer snapshot.Info, o ConfigOptions) ([]byte, error) {
	c, view := object{}, configView{}
	if parent != nil {
		var err error
		if view, err = parseConfig(parent, ""); err != nil {
			return nil, fmt.Errorf("reading the parent's config: %w", err)
		}
		if err := json.Unmarshal(parent, &c); err != nil {
			return nil, fmt.Errorf("reading the parent's config: %w", err)
		}
	}
	if len(view.RootFS.DiffIDs) == maxLayers {
		return nil, fmt.Errorf("%w: the parent has %d layers already, the most that an image may have", snapshot.ErrInvalid, maxLayers)
	}
	if o.Created.IsZero() {
		o.Created = time.Now()
	}
	delete(c, "container")
	delete(c, "container_config")
	if err := setPlatform(c, view, o.Platform); err != nil {
		return nil, err
	}
	if err := applyChanges(c, o.Changes); err != nil {
		return nil, err
	}
	if err := appendLayer(c, view, layer, o); err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

// setPlatform fills in what the parent does not tell.
func setPlatform(c object, view configView, want string) error {
	p, err := parsePlatform(want)
	if err != nil {
		return err
	}
	if view.Architecture == "" {
		if err := c.set("architecture", p.Architecture); err != nil {
			return err
		}
		if p.Variant != "" {
			if err := c.set("variant", p.Variant); err != nil {
				return err
			}
		}
	}
	if view.OS == "" {
		return c.set("os", p.OS)
	}
	return nil
}

// appendLayer adds the layer and how it came to be.
func appendLayer(c object, view configView, layer snapshot.Info, o ConfigOptions) error {
	created := o.Created.UTC()
	if err := c.set("created", created); err != nil {
		return err
	}
	if o.Author != "" {
		if err := c.set("author", o.Author); err != nil {
			return err
		}
	}
	if err := c.set("rootfs", rootFS{Type: "layers", DiffIDs: append(slices.Clone(view.RootFS.DiffIDs), layer.DiffID)}); err != nil {
		return err
	}
	// Readers join history and layers by counting, so layers of the parent that
	// have no entry get one.
	history, told := view.History, 0
	for _, h := range history {
		if !h.EmptyLayer {
			told++
		}
	}
	for ; told < len(view.RootFS.DiffIDs); told++ {
		history = append(history, historyEntry{Created: view.Created})
	}
	return c.set("history", append(history, historyEntry{
		Created: lenientTime{created}, Author: o.Author, CreatedBy: o.CreatedBy, Comment: o.Message,
	}))
}

// HistoryRow is one line of `history`.
type HistoryRow struct {
	Created   time.Time `json:"created,omitzero"`
	CreatedBy string    `json:"createdBy,omitempty"`
	Author    string    `json:"author,omitempty"`
	Comment   string    `json:"comment,omitempty"`
	// Layer is the name of the layer that the step made, "" if it made none.
	Layer string `json:"layer,omitempty"`
	// Size is the bytes that the layer added to the store, 0 if the step made none.
	Size int64 `json:"size"`
}

// History joins the history that a config tells with the layers of its image,
// lowest first. Old configs tell less than they have layers: rows are made up
// for those. The newest row comes first, as Docker shows it. A history that
// cannot be read is taken for none.
func History(config []byte, layers []snapshot.Info) ([]HistoryRow, error) {
	var c struct {
		Created lenientTime     `json:"created"`
		History json.RawMessage `json:"history"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("reading an image's config: %w", err)
	}
	var history []historyEntry
	if err := json.Unmarshal(c.History, &history); err != nil {
		history = nil
	}
	rows := make([]HistoryRow, 0, max(len(history), len(layers)))
	next := 0
	add := func(h historyEntry) {
		r := HistoryRow{Created: h.Created.Time, CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment}
		if !h.EmptyLayer && next < len(layers) {
			r.Layer, r.Size = layers[next].Name, layers[next].Usage.Added
			next++
		}
		rows = append(rows, r)
	}
	for _, h := range history {
		add(h)
	}
	for next < len(layers) {
		add(historyEntry{Created: c.Created})
	}
	slices.Reverse(rows)
	return rows, nil
}
