package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// registry is Debian's registry, empty, behind a gate that can hold or spoil what a client
// fetches. Both listen on 127.0.0.1, to which dockerd and containerd speak plain HTTP.
type registry struct {
	daemon
	address string // the gate's

	mu      sync.Mutex
	fetched []digest.Digest // blobs, whole or not
	gates   map[digest.Digest]gate
}

// gate stands before one blob.
type gate func(request *http.Request, body io.ReadCloser, size int64) io.ReadCloser

func newRegistry(t *testing.T) *registry {
	t.Helper()
	if _, err := exec.LookPath("docker-registry"); err != nil {
		t.Skip("no docker-registry on this machine: Debian's package of that name has it")
	}
	dir := scratch(t)
	r := &registry{daemon: daemon{t: t, name: "registry", dir: dir}, gates: map[digest.Digest]gate{}}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	behind := free.Addr().String()
	require.NoError(t, free.Close())
	config := filepath.Join(dir, "config.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil,
		"version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", dir, behind), 0o600))
	t.Cleanup(func() { r.end() })
	r.launch(exec.Command("docker-registry", "serve", config), func() error {
		answer, err := http.Get("http://" + behind + "/v2/")
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	})
	proxy := &httputil.ReverseProxy{
		Rewrite: func(q *httputil.ProxyRequest) {
			q.SetURL(&url.URL{Scheme: "http", Host: behind})
			q.Out.Host = q.In.Host // where the registry sends clients on to
		},
		ModifyResponse: r.pass,
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	r.address = server.Listener.Addr().String()
	return r
}

// pass is where a blob comes through the gate.
func (r *registry) pass(answer *http.Response) error {
	q := answer.Request
	id := digest.Digest(path.Base(q.URL.Path))
	if q.Method != http.MethodGet || answer.StatusCode != http.StatusOK || path.Base(path.Dir(q.URL.Path)) != "blobs" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fetched = append(r.fetched, id)
	if g := r.gates[id]; g != nil {
		answer.Body = g(q, answer.Body, answer.ContentLength)
	}
	return nil
}

// set has a gate stand before a blob; nil takes it away.
func (r *registry) set(id digest.Digest, g gate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gates[id] = g
}

// forget is what was fetched since the last time.
func (r *registry) forget() (fetched []digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fetched, r.fetched = r.fetched, nil
	return fetched
}

// put puts a stage of the real image into the registry, and returns its name there and its layers' digests, lowest
// first, as they are there.
func (r *registry) put(tag string) (ref string, layers []digest.Digest) {
	r.t.Helper()
	ref = r.address + "/real/" + tag + ":1"
	command(r.t, "skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false",
		"oci:"+filepath.Join(realImage(r.t), "oci")+":"+tag, "docker://"+ref)
	var m struct {
		Layers []struct{ Digest digest.Digest }
	}
	require.NoError(r.t, json.Unmarshal([]byte(command(r.t, "skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+ref)), &m))
	for _, l := range m.Layers {
		layers = append(layers, l.Digest)
	}
	require.NotEmpty(r.t, layers)
	return ref, layers
}

// hold has a blob stop in its middle, for as many clients as ask, until let is called. reached waits for the first to be there.
func (r *registry) hold(id digest.Digest) (reached, let func()) {
	there, open := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(there) })
	r.set(id, func(q *http.Request, body io.ReadCloser, size int64) io.ReadCloser {
		middle := readFunc(func([]byte) (int, error) {
			once()
			select {
			case <-open:
				return 0, io.EOF
			case <-q.Context().Done():
				return 0, q.Context().Err()
			}
		})
		return through{io.MultiReader(io.LimitReader(body, size/2), middle, body), body}
	})
	reached = func() {
		r.t.Helper()
		require.True(r.t, eventually(func() bool { return closed(there) }), "nobody has fetched half of %s", id)
	}
	let = sync.OnceFunc(func() { close(open); r.set(id, nil) })
	r.t.Cleanup(let) // before the gate's end, which waits for its clients
	return reached, let
}

// spoil has a blob come with another byte in its middle.
func (r *registry) spoil(id digest.Digest) {
	r.set(id, func(_ *http.Request, body io.ReadCloser, size int64) io.ReadCloser {
		return through{io.MultiReader(io.LimitReader(body, size/2), changedByte(body), body), body}
	})
}

// through reads from one thing and closes another.
type through struct {
	io.Reader
	io.Closer
}

// changedByte is the next byte of r, with all its bits turned, and no more.
func changedByte(r io.Reader) io.Reader {
	ended := false
	return readFunc(func(p []byte) (int, error) {
		if ended {
			return 0, io.EOF
		}
		ended = true
		n, err := io.ReadFull(r, p[:1])
		p[0] ^= 0xff
		return n, err
	})
}

// readFunc is a reader.
type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// inBackground starts a client's command that goes on beside the test; done waits for its end.
func inBackground(t *testing.T, cmd *exec.Cmd) (done func() error) {
	t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	var err error
	go func() {
		err = cmd.Wait()
		close(ended)
	}()
	return func() error {
		t.Helper()
		require.True(t, eventually(func() bool { return closed(ended) }), "%s does not end", cmd.Args)
		if err != nil {
			said := out.String()
			return fmt.Errorf("%w: %s", err, said[max(0, len(said)-1000):]) // before it the client's progress
		}
		return nil
	}
}
