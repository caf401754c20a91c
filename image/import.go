package image

import (
	"context"
	"io"
	"time"
)

// ImportOptions describe the image that is made of a root file system.
type ImportOptions struct {
	// Ref is the image's name, "" for none.
	Ref string
	// Changes are Dockerfile instructions that set the config: see NewConfig.
	Changes []string
	// Message goes into the history.
	Message string
	// Created is the image's time; the zero time means now.
	Created time.Time
	// Platform is "os/architecture[/variant]"; "" is this machine's.
	Platform string
	// NoDevices refuses device nodes.
	NoDevices bool
	// Stdin is read when the source is "-".
	Stdin io.Reader
	// SpoolDir and SpoolLimit are as in OpenOptions.
	SpoolDir   string
	SpoolLimit int64
	// Progress, if set, is told of spooling, hashing and unpacking.
	Progress func(Event)
}

// Import makes an image of one layer from the tar of a root file system: a file,
// or standard input for "-"; plain or compressed as in Open.
func Import(ctx context.Context, s Loader, source string, o ImportOptions) (Loaded, error) {
	panic("soon")
}
