package image

import (
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

// NewConfig makes the config of an image that has one layer more than its
// parent: the layer's DiffID and a history entry are appended, everything else is
// kept, also what blockstore does not know. parent is nil for an image without
// one. It fits snapshot.CommitRequest.Config.
func NewConfig(parent []byte, layer snapshot.Info, o ConfigOptions) ([]byte, error) {
	panic("soon")
}

// HistoryRow is one line of `history`.
type HistoryRow struct {
	Created   time.Time `json:"created,omitzero"`
	CreatedBy string    `json:"createdBy,omitempty"`
	Author    string    `json:"author,omitempty"`
	Comment   string    `json:"comment,omitempty"`
	// Layer is the name of the layer that the step made, "" if it made none.
	Layer string `json:"layer,omitempty"`
	// Size is the bytes that the layer added, 0 if the step made none.
	Size int64 `json:"size"`
}

// History joins the history that a config tells with the layers of its image,
// lowest first. Old configs tell less than they have layers: rows are made up
// for those. The newest row comes first, as Docker shows it.
func History(config []byte, layers []snapshot.Info) ([]HistoryRow, error) {
	panic("soon")
}
