package graphdriver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"blockstore.dev/blockstore/snapshot"
)

// mediaType is what dockerd accepts.
const mediaType = "application/vnd.docker.plugins.v1.2+json"

// maxRequest bounds a JSON request.
const maxRequest = 1 << 20

// request is what the methods that take JSON may hold. Unknown fields are ignored.
type request struct {
	ID         string
	Parent     string
	MountLabel string
	StorageOpt map[string]string

	Home    string
	Opts    []string
	UIDMaps []IDMap
	GIDMaps []IDMap
}

// IDMap is a range of user or group ids of a user namespace.
type IDMap struct {
	ContainerID int `json:"container_id"`
	HostID      int `json:"host_id"`
	Size        int `json:"size"`
}

// The answers. Fields that are empty are left out, as in dockerd's own structs.
type (
	empty      struct{}
	activated  struct{ Implements []string }
	capability struct{ ReproducesExactDiffs bool }
	abilities  struct{ Capabilities capability }
	existence  struct{ Exists bool }
	directory  struct{ Dir string }
	statusRows struct{ Status [][2]string }
	metadata   struct{ Metadata map[string]string }
	changeList struct{ Changes []change }
	sized      struct{ Size int64 }
	failure    struct{ Err string }
)

// change is one changed path; Kind is 0 for modified, 1 for added, 2 for deleted.
type change struct {
	Path string
	Kind int
}

// readRequest decodes a JSON request. A body that is missing is one that was
// consumed by an earlier try of the client's.
func readRequest(r *http.Request) (request, error) {
	var q request
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil {
		return q, fmt.Errorf("reading the request: %w", err)
	}
	if len(raw) > maxRequest {
		return q, fmt.Errorf("a request of more than %d bytes: %w", maxRequest, snapshot.ErrInvalid)
	}
	if strings.TrimSpace(string(raw)) == "" {
		return q, fmt.Errorf("the request is empty; its call was interrupted, begin it anew: %w", snapshot.ErrInvalid)
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		return q, fmt.Errorf("the request is not what %s takes: %w: %w", r.URL.Path, snapshot.ErrInvalid, err)
	}
	return q, nil
}

// writeAnswer sends an answer of the protocol's.
func writeAnswer(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", mediaType)
	_ = json.NewEncoder(w).Encode(answer) // dockerd has gone: nobody to tell
}

// writeError sends an error in the protocol's form: dockerd shows Err.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, errUnknownMethod):
		status = http.StatusNotFound
	case errors.Is(err, errNotPost):
		status = http.StatusMethodNotAllowed
	case errors.Is(err, errStranger):
		status = http.StatusForbidden
	case errors.Is(err, snapshot.ErrInvalid):
		status = http.StatusBadRequest
	case errors.Is(err, snapshot.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, snapshot.ErrBusy) || errors.Is(err, snapshot.ErrExists):
		status = http.StatusConflict
	case errors.Is(err, snapshot.ErrNoSpace):
		status = http.StatusInsufficientStorage
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	// One line: dockerd's users see it in the middle of others.
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	_ = json.NewEncoder(w).Encode(failure{text})
}

var (
	errUnknownMethod = errors.New("unknown method")
	errNotPost       = errors.New("every method is a POST")
	errStranger      = errors.New("only root is served")
)
