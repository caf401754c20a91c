package image

import "github.com/opencontainers/go-digest"

// Stage is what is being done to the thing that an Event is about.
type Stage string

const (
	// StageSpool copies the archive into a temporary file, decompressing it if
	// need be, because it cannot be read by offset where it is.
	StageSpool Stage = "spool"
	// StageHash computes the DiffID of a layer that came without one.
	StageHash Stage = "hash"
	// StageUnpack writes a layer into the store.
	StageUnpack Stage = "unpack"
	// StageWrite writes a layer into an archive.
	StageWrite Stage = "write"
)

// Event is one step of a long operation. Events about one layer come in order;
// the last has Finished set. Callbacks get one event at a time and must return
// at once.
type Event struct {
	Stage Stage `json:"stage"`
	// Image is a name of the image, or its id if it has none; "" while spooling.
	Image string `json:"image,omitempty"`
	// DiffID is the layer's, "" while it is not known.
	DiffID digest.Digest `json:"diffID,omitempty"`
	// Layer counts from 0, lowest first; Layers is how many the image has.
	Layer  int `json:"layer"`
	Layers int `json:"layers"`
	// Done and Total are bytes of the layer as the archive has it: compressed, if
	// it is compressed. Total is 0 where it is not known beforehand.
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	// Finished is set with the last event of a layer (or of spooling); Known, with
	// it, when there was nothing to do because the store had the layer.
	Finished bool `json:"finished,omitempty"`
	Known    bool `json:"known,omitempty"`
}
