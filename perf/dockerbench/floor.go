package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// floor names the column of a plugin that stores nothing: what Docker's protocol itself
// costs, below which no plugin gets.
const floor = "plugin/floor"

// onFloor serves dockerd a plugin that makes a plain directory for each layer, on a file
// system like overlay2's, waits for no disk and drops the layers that it is handed.
// Containers can be made and removed on it, and not run.
func onFloor(ctx context.Context, p *peer) error {
	if err := p.onFileSystem(ctx, "", "ext4"); err != nil {
		return err
	}
	p.storage = fmt.Sprintf("bstest%d-floor", os.Getpid())
	socket, err := pluginSocket(p.undo, p.storage)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: &emptyPlugin{dir: filepath.Join(p.data, "floor")}}
	p.undo.Add("the plugin that stores nothing", s.Close)
	go func() { _ = s.Serve(l) }()
	p.flags = append(p.flags, "--experimental")
	p.note = "a plugin that makes a plain directory for each layer, waits for no disk and stores nothing: what dockerd's protocol costs. It runs no container"
	return nil
}

// emptyPlugin answers Docker's graphdriver protocol out of directories.
type emptyPlugin struct{ dir string }

func (e *emptyPlugin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/")
	var q struct{ ID string }
	if method == "GraphDriver.ApplyDiff" {
		q.ID = r.URL.Query().Get("id")
	} else if err := json.NewDecoder(r.Body).Decode(&q); err != nil && !errors.Is(err, io.EOF) {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := e.answer(method, filepath.Join(e.dir, filepath.Base(q.ID)), r.Body)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		answer = map[string]any{"Err": err.Error()}
	}
	w.Header().Set("Content-Type", "application/vnd.docker.plugins.v1.2+json")
	_ = json.NewEncoder(w).Encode(answer) // dockerd has gone: nobody to tell
}

// answer does what a method asks for with a layer's directory.
func (e *emptyPlugin) answer(method, layer string, body io.Reader) (map[string]any, error) {
	switch method {
	case "Plugin.Activate":
		return map[string]any{"Implements": []string{"GraphDriver"}}, nil
	case "GraphDriver.Capabilities":
		return map[string]any{"Capabilities": map[string]any{}}, nil
	case "GraphDriver.Status":
		return map[string]any{"Status": [][2]string{}}, nil
	case "GraphDriver.Init":
		return nil, os.MkdirAll(e.dir, 0o700)
	case "GraphDriver.Create", "GraphDriver.CreateReadWrite":
		return nil, os.Mkdir(layer, 0o755)
	case "GraphDriver.Remove":
		return nil, os.RemoveAll(layer)
	case "GraphDriver.Get":
		return map[string]any{"Dir": layer}, nil
	case "GraphDriver.Exists":
		_, err := os.Stat(layer)
		return map[string]any{"Exists": err == nil}, nil
	case "GraphDriver.ApplyDiff":
		n, err := io.Copy(io.Discard, body)
		return map[string]any{"Size": n}, err
	case "GraphDriver.Put", "GraphDriver.Cleanup":
		return nil, nil
	}
	return nil, fmt.Errorf("%s is not answered by %s", method, floor)
}
