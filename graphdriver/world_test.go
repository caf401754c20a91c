package graphdriver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
	"blockstore.dev/blockstore/snapshot/mount"
)

// world is a store, the plugin that serves it on a socket, and a client that talks
// to it as dockerd does.
type world struct {
	t      *testing.T
	kind   snapshot.Kind
	root   string
	home   string
	socket string
	store  *snapshot.Store
	plugin *Plugin
	log    bytes.Buffer
	http   *http.Client
	stop   func()
	// observe is Options.Observe of what is started from now on.
	observe func(string, time.Duration, error)
}

// needRoot: stores mount file systems.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the store mounts file systems")
	}
}

// directories is a world without a kernel driver.
func directories(t *testing.T) *world { return newWorld(t, dirdriver.New(), snapshot.InitOptions{}) }

// newWorld makes a store, serves it and says Init. Whatever the test leaves is
// removed, as Docker would, and then nothing may be left.
func newWorld(t *testing.T, kind snapshot.Kind, o snapshot.InitOptions) *world {
	t.Helper()
	needRoot(t)
	dir, err := os.MkdirTemp(os.Getenv("BSTEST_DIR"), "bstest-door-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	w := &world{t: t, kind: kind, root: filepath.Join(dir, "store"), home: filepath.Join(dir, "data", "blockstore"), socket: filepath.Join(dir, "s")}
	o.Root = w.root
	require.NoError(t, snapshot.Init(t.Context(), kind, o, "for a test"))
	t.Cleanup(w.end)
	w.start()
	w.must("Init", request{Home: w.home}, nil)
	return w
}

func (w *world) options() snapshot.StoreOptions {
	return snapshot.StoreOptions{Root: w.root, Kinds: []snapshot.Kind{w.kind}}
}

// start opens the store and serves it.
func (w *world) start() {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	var err error
	w.store, err = snapshot.Open(ctx, w.options())
	require.NoError(w.t, err)
	w.plugin, err = New(w.store, Options{Log: slog.New(slog.NewTextHandler(&w.log, nil)), Version: "test", Observe: w.observe})
	require.NoError(w.t, err)
	l, err := net.Listen("unix", w.socket)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- w.plugin.Serve(ctx, l) }()
	w.http = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", w.socket)
	}}}
	w.stop = func() {
		w.http.CloseIdleConnections()
		cancel()
		require.NoError(w.t, <-served)
		require.NoError(w.t, w.store.Close(context.Background()))
		w.stop = nil
	}
}

// restart is that of the plugin: dockerd goes on and says nothing again.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// end removes what Docker has, and looks for what is left.
func (w *world) end() {
	if w.stop == nil {
		return
	}
	ctx := context.Background()
	if layers, err := w.plugin.layers(ctx); err == nil {
		for n := -1; len(layers) != n; layers, _ = w.plugin.layers(ctx) { // leaves first
			n = len(layers)
			for _, in := range layers {
				_ = w.store.Discard(ctx, in.Name)
			}
			if n == 0 {
				break
			}
		}
	}
	if !w.t.Failed() {
		layers, err := w.plugin.layers(ctx)
		require.NoError(w.t, err)
		require.Empty(w.t, layers)
		require.NoError(w.t, w.store.Sweep(ctx)) // what was removed goes in the background
		report, err := w.store.Check(ctx, snapshot.CheckOptions{})
		require.NoError(w.t, err)
		require.Empty(w.t, report.Findings)
		if ids, err := w.store.Driver().Volumes(ctx); !errors.Is(err, snapshot.ErrNotSupported) {
			require.NoError(w.t, err)
			require.Empty(w.t, ids, "volumes left")
		}
	} else {
		w.t.Logf("the plugin's log:\n%s", &w.log)
	}
	w.stop()
	require.NoError(w.t, snapshot.Destroy(ctx, w.options()))
	below, err := mount.Below(filepath.Dir(w.root))
	require.NoError(w.t, err)
	require.Empty(w.t, below, "mounts left")
}

// post sends a body as it is and returns status and body of the answer.
func (w *world) post(path string, body io.Reader) (int, []byte) {
	w.t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://plugin"+path, body)
	require.NoError(w.t, err)
	r.Header.Set("Accept", mediaType)
	answer, err := w.http.Do(r)
	require.NoError(w.t, err)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	require.NoError(w.t, err)
	return answer.StatusCode, raw
}

// call is one JSON call; its error is what Docker's users would read.
func (w *world) call(method string, q request, into any) error {
	w.t.Helper()
	body, err := json.Marshal(q)
	require.NoError(w.t, err)
	status, raw := w.post("/GraphDriver."+method, bytes.NewReader(body))
	return decodeAnswer(w.t, status, raw, into)
}

func decodeAnswer(t *testing.T, status int, raw []byte, into any) error {
	t.Helper()
	var f failure
	require.NoError(t, json.Unmarshal(raw, &f), "every answer is JSON: %q", raw)
	if status != http.StatusOK || f.Err != "" {
		require.NotEmpty(t, f.Err)
		require.NotEqual(t, http.StatusOK, status)
		require.NotContains(t, f.Err, "\n")
		return errors.New(f.Err)
	}
	if into != nil {
		require.NoError(t, json.Unmarshal(raw, into))
	}
	return nil
}

func (w *world) must(method string, q request, into any) {
	w.t.Helper()
	require.NoError(w.t, w.call(method, q, into), method)
}

func (w *world) fails(text, method string, q request) {
	w.t.Helper()
	require.ErrorContains(w.t, w.call(method, q, nil), text, method)
}

// get mounts a layer.
func (w *world) get(id string) string {
	w.t.Helper()
	var d directory
	w.must("Get", request{ID: id}, &d)
	return d.Dir
}

// put waits for the unmounting too, which the answer does not.
func (w *world) put(id string) {
	w.t.Helper()
	w.must("Put", request{ID: id}, nil)
	_, unlock := w.plugin.refs.lock(id)
	unlock()
}

func (w *world) create(id, parent string) {
	w.t.Helper()
	w.must("Create", request{ID: id, Parent: parent}, nil)
}

func (w *world) remove(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		w.must("Remove", request{ID: id}, nil)
	}
}

func (w *world) exists(id string) bool {
	w.t.Helper()
	var e existence
	w.must("Exists", request{ID: id}, &e)
	return e.Exists
}

// in runs fn in a layer's tree.
func (w *world) in(id string, fn func(dir string)) {
	w.t.Helper()
	fn(w.get(id))
	w.put(id)
}

func (w *world) mounted(id string) bool {
	w.t.Helper()
	in, err := w.store.Stat(w.t.Context(), Name(id))
	require.NoError(w.t, err)
	table, err := mount.Table()
	require.NoError(w.t, err)
	for _, e := range table {
		if in.Mounted != "" && e.Target == in.Mounted {
			return true
		}
	}
	require.Empty(w.t, in.Mounted)
	return false
}

// apply sends a layer tar.
func (w *world) apply(id, parent string, body io.Reader) (int64, error) {
	w.t.Helper()
	status, raw := w.post("/GraphDriver.ApplyDiff?id="+url.QueryEscape(id)+"&parent="+url.QueryEscape(parent), body)
	var s sized
	err := decodeAnswer(w.t, status, raw, &s)
	return s.Size, err
}

// diff reads a layer tar whole.
func (w *world) diff(id, parent string) []byte {
	w.t.Helper()
	body, err := json.Marshal(request{ID: id, Parent: parent})
	require.NoError(w.t, err)
	status, raw := w.post("/GraphDriver.Diff", bytes.NewReader(body))
	require.Equal(w.t, http.StatusOK, status, "%s", raw)
	return raw
}

func (w *world) changes(id, parent string) []change {
	w.t.Helper()
	var list changeList
	w.must("Changes", request{ID: id, Parent: parent}, &list)
	return list.Changes
}

func (w *world) size(id, parent string) int64 {
	w.t.Helper()
	var s sized
	w.must("DiffSize", request{ID: id, Parent: parent}, &s)
	return s.Size
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(raw)
}
