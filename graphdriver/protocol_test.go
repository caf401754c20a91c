package graphdriver

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
	"blockstore.dev/blockstore/snapshot/drivertest/dirdriver"
)

// methods are those that take JSON and concern a layer.
func methods() []string {
	return []string{"Create", "CreateReadWrite", "Remove", "Get", "Put", "Exists", "GetMetadata", "Changes", "DiffSize"}
}

func TestHandshake(t *testing.T) {
	w := directories(t)
	status, raw := w.post("/Plugin.Activate", nil)
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"Implements":["GraphDriver"]}`, string(raw))
	status, raw = w.post("/GraphDriver.Capabilities", strings.NewReader("{}\n"))
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"Capabilities":{"ReproducesExactDiffs":false}}`, string(raw))
	for range 2 { // dockerd is started anew
		w.must("Init", request{Home: w.home, Opts: []string{"size=20G"}}, nil)
	}
	require.Contains(t, w.rowsByLabel(), "Size Limit")
	require.Equal(t, "20 GiB", w.rowsByLabel()["Size Limit"])
}

func (w *world) rowsByLabel() map[string]string {
	w.t.Helper()
	var s statusRows
	w.must("Status", request{}, &s)
	by := map[string]string{}
	for _, row := range s.Status {
		by[row[0]] = row[1]
	}
	return by
}

// TestMalformed: what no dockerd sends, or one whose call broke off, is refused in the
// protocol's form, and the store is as it was.
func TestMalformed(t *testing.T) {
	w := directories(t)
	w.create("base", "")
	for _, m := range methods() {
		for _, body := range []string{"", "\n", "{", "[]", "null x", `{"ID":7}`, strings.Repeat(" ", maxRequest+2)} {
			status, raw := w.post("/GraphDriver."+m, strings.NewReader(body))
			require.Error(t, decodeAnswer(t, status, raw, nil), "%s with %.20q", m, body)
			require.Equal(t, http.StatusBadRequest, status)
		}
		for _, id := range []string{"", "/", "a/b", "..", ".", "a\x00b", strings.Repeat("x", maxID+1)} {
			require.Error(t, w.call(m, request{ID: id}, nil), "%s of %.20q", m, id)
		}
	}
	w.fails("parent", "Create", request{ID: "x", Parent: "../base"})
	w.fails("parent", "Changes", request{ID: "base", Parent: "a/b"})
	for _, path := range []string{"/", "/GraphDriver.Nothing", "/GraphDriver.", "/Plugin.Deactivate", "/GraphDriver.Get/x"} {
		status, raw := w.post(path, strings.NewReader("{}"))
		require.ErrorContains(t, decodeAnswer(t, status, raw, nil), "unknown method")
		require.Equal(t, http.StatusNotFound, status)
	}
	answer, err := w.http.Get("http://plugin/Plugin.Activate")
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, answer.StatusCode)
	status, raw := w.post("/GraphDriver.Get", strings.NewReader(`{"ID":"base","Unknown":[1,{"a":2}]}`))
	require.NoError(t, decodeAnswer(t, status, raw, nil), "unknown fields are of a newer dockerd")
	layers, err := w.plugin.layers(t.Context())
	require.NoError(t, err)
	require.Len(t, layers, 1)
}

// TestUnknownIDs: some methods take them for what is done already.
func TestUnknownIDs(t *testing.T) {
	w := directories(t)
	w.must("Remove", request{ID: "nobody"}, nil)
	w.must("Put", request{ID: "nobody"}, nil)
	require.False(t, w.exists("nobody"))
	for _, m := range []string{"Get", "GetMetadata", "Changes", "DiffSize"} {
		w.fails("not found", m, request{ID: "nobody"})
	}
	w.fails("not found", "Create", request{ID: "x", Parent: "nobody"})
	require.False(t, w.exists("x"))
	w.create("base", "")
	w.fails("not found", "Changes", request{ID: "base", Parent: "nobody"})
	status, raw := w.post("/GraphDriver.Diff", strings.NewReader(`{"ID":"nobody"}`))
	require.ErrorContains(t, decodeAnswer(t, status, raw, nil), "not found")
	_, err := w.apply("nobody", "", bytes.NewReader(layer("f")))
	require.ErrorContains(t, err, "not found")
}

// TestCreateAgain: the answer was lost, and dockerd asks again.
func TestCreateAgain(t *testing.T) {
	w := directories(t)
	w.create("base", "")
	w.create("base", "")
	w.fails("exists", "Create", request{ID: "base", StorageOpt: map[string]string{"size": "12G"}})
	w.create("other", "")
	w.create("c", "base")
	w.fails("exists", "Create", request{ID: "c", Parent: "other"})
	w.fails("exists", "Create", request{ID: "base"}) // it has a child by now
	w.in("other", func(string) {})
	w.fails("exists", "Create", request{ID: "other"})
}

func TestStorageOptions(t *testing.T) {
	w := directories(t)
	w.fails("only size", "CreateReadWrite", request{ID: "a", StorageOpt: map[string]string{"quota": "1G"}})
	w.fails("unknown unit", "CreateReadWrite", request{ID: "a", StorageOpt: map[string]string{"size": "1X"}})
	w.fails("below", "CreateReadWrite", request{ID: "a", StorageOpt: map[string]string{"size": "1G"}})
	require.False(t, w.exists("a"))
	w.must("CreateReadWrite", request{ID: "a", StorageOpt: map[string]string{"Size": "20G"}}, nil)
	w.must("Init", request{Home: w.home, Opts: []string{"size=30G"}}, nil)
	w.must("CreateReadWrite", request{ID: "b"}, nil)
	w.must("CreateReadWrite", request{ID: "c", Parent: "a"}, nil)
	w.must("CreateReadWrite", request{ID: "d", Parent: "c", StorageOpt: map[string]string{"size": "40G"}}, nil)
	w.must("CreateReadWrite", request{ID: "e", Parent: "d"}, nil)
	for id, want := range map[string]int64{"a": 20 << 30, "b": 30 << 30, "c": 30 << 30, "d": 40 << 30, "e": 40 << 30} {
		in, err := w.store.Stat(t.Context(), Name(id))
		require.NoError(t, err)
		require.Equal(t, want, in.Volume.Size, id)
	}
	w.restart()
	w.must("CreateReadWrite", request{ID: "f"}, nil)
	in, err := w.store.Stat(t.Context(), Name("f"))
	require.NoError(t, err)
	require.EqualValues(t, 30<<30, in.Volume.Size, "a restarted plugin is told nothing again")
}

// TestReferences: a layer is mounted from the first Get to the last Put, and the
// directory is always the same.
func TestReferences(t *testing.T) {
	w := directories(t)
	w.create("c", "")
	dir := w.get("c")
	require.Equal(t, dir, w.get("c"))
	w.put("c")
	require.True(t, w.mounted("c"))
	w.put("c")
	require.False(t, w.mounted("c"))
	w.put("c") // once too often
	require.Equal(t, dir, w.get("c"))
	w.restart() // in which a running container goes on
	require.True(t, w.mounted("c"))
	require.Equal(t, dir, w.get("c"))
	w.put("c")
	require.True(t, w.mounted("c"), "the container's own reference is left")
	w.put("c")
	require.False(t, w.mounted("c"))

	for range 3 { // a dockerd that dies gives nothing back
		w.get("c")
	}
	w.must("Init", request{Home: w.home}, nil)
	w.put("c")
	require.False(t, w.mounted("c"), "a new dockerd begins with one reference for what is mounted")
	w.get("c")
	w.create("d", "c")
	w.get("d")
	w.must("Cleanup", request{}, nil)
	require.False(t, w.mounted("c"))
	require.False(t, w.mounted("d"))
}

// TestPutBusy: somebody on the host looks into a container's directory while it
// stops. Docker is not bothered with that.
func TestPutBusy(t *testing.T) {
	w := directories(t)
	w.create("c", "")
	dir := w.get("c")
	write(t, dir, "f", "f")
	f, err := os.Open(filepath.Join(dir, "f"))
	require.NoError(t, err)
	w.put("c")
	require.True(t, w.mounted("c"))
	w.plugin.sweep(t.Context())
	require.True(t, w.mounted("c"))
	require.NoError(t, f.Close())
	w.plugin.sweep(t.Context())
	require.False(t, w.mounted("c"))
	require.Contains(t, w.log.String(), "stays mounted, and is tried again")
}

// TestRemoveReferenced: BuildKit removes its views without Put.
func TestRemoveReferenced(t *testing.T) {
	w := directories(t)
	w.create("base", "")
	w.must("CreateReadWrite", request{ID: "view", Parent: "base"}, nil)
	dir := w.get("view")
	w.get("view")
	w.remove("view")
	require.NoDirExists(t, dir)
	w.remove("view")
	w.put("view")
	w.create("view", "base") // with no references
	w.get("view")
	w.put("view")
	require.False(t, w.mounted("view"))
	w.fails("stands on it", "Remove", request{ID: "base"})
}

// layer is a small tar.
func layer(files ...string) []byte {
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	for _, name := range files {
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(name)), Typeflag: tar.TypeReg}); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(out, name); err != nil {
			panic(err)
		}
	}
	if err := out.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// TestApplyDiffBroken: a tar that ends early, is none, or is hostile, gives an
// error, and what is left of it does not pass for a layer.
func TestApplyDiffBroken(t *testing.T) {
	whole := layer("a", "b")
	for name, body := range map[string][]byte{
		"half": whole[:700], "no trailer": whole[:1024], "text": []byte("this is not a tar"), "nothing": nil,
		"outside": layer("../../outside"),
	} {
		t.Run(name, func(t *testing.T) {
			w := directories(t)
			w.create("l", "")
			_, err := w.apply("l", "", bytes.NewReader(body))
			require.Error(t, err)
			_, err = w.apply("l", "", bytes.NewReader(whole[len(whole)-1024:])) // zeros: an empty tar
			require.ErrorContains(t, err, "begun before")
			w.fails("begun", "Create", request{ID: "child", Parent: "l"})
			w.remove("l")
		})
	}
	w := directories(t)
	w.create("base", "")
	w.create("l", "base")
	_, err := w.apply("l", "other", bytes.NewReader(whole))
	require.ErrorContains(t, err, "stands on")
	size, err := w.apply("l", "base", bytes.NewReader(whole))
	require.NoError(t, err)
	require.EqualValues(t, 2, size)
	_, err = w.apply("l", "base", bytes.NewReader(whole))
	require.ErrorContains(t, err, "which nothing can be written to")
}

// TestApplyDiffBrokenOff: the connection goes in the middle of the body, and the
// rest comes on a new one.
func TestApplyDiffBrokenOff(t *testing.T) {
	w := directories(t)
	w.create("l", "")
	whole := layer("a", strings.Repeat("b", 90))
	c, err := net.Dial("unix", w.socket)
	require.NoError(t, err)
	_, err = fmt.Fprintf(c, "POST /GraphDriver.ApplyDiff?id=l&parent= HTTP/1.1\r\nHost: \r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", 1024, whole[:1024])
	require.NoError(t, err)
	require.Eventually(t, func() bool { // the plugin has begun
		in, err := w.store.Stat(t.Context(), Name("l"))
		return err == nil && in.Filling
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, c.Close())
	_, err = w.apply("l", "", bytes.NewReader(whole[1024:]))
	require.ErrorContains(t, err, "begun before")
	w.restart()
	_, err = w.apply("l", "", bytes.NewReader(whole[1024:]))
	require.ErrorContains(t, err, "begun before")
}

// TestDiffHangUp: a reader that goes away releases the layer; so does one that never
// reads and whose connection is cut.
func TestDiffHangUp(t *testing.T) {
	w := directories(t)
	w.create("base", "")
	w.create("l", "base")
	w.in("l", func(dir string) {
		for i := range 64 {
			require.NoError(t, fill(filepath.Join(dir, fmt.Sprint(i)), 1<<20))
		}
	})
	w.get("l")
	before := runtime.NumGoroutine()
	for range 4 {
		body, err := json.Marshal(request{ID: "l", Parent: "base"})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/GraphDriver.Diff", bytes.NewReader(body))
		require.NoError(t, err)
		answer, err := w.http.Do(r)
		require.NoError(t, err)
		_, err = io.CopyN(io.Discard, answer.Body, 1<<20)
		require.NoError(t, err)
		cancel()
		_ = answer.Body.Close()
	}
	w.put("l")
	require.Eventually(t, func() bool {
		volumes, err := w.store.Driver().Volumes(t.Context())
		return err == nil && len(volumes) == 2 && runtime.NumGoroutine() <= before+4
	}, 20*time.Second, 5*time.Millisecond, "copies or goroutines are left")
	w.remove("l", "base")
}

// TestDiffFails: an error after the first byte must not look like the end of a tar.
func TestDiffFails(t *testing.T) {
	w := directories(t)
	w.create("l", "")
	w.in("l", func(dir string) {
		write(t, dir, "a", strings.Repeat("x", 4<<20))
		write(t, dir, "z/.wh.odd", "no layer can hold this name")
	})
	body := strings.NewReader(`{"ID":"l"}`)
	r, err := http.NewRequest(http.MethodPost, "http://plugin/GraphDriver.Diff", body)
	require.NoError(t, err)
	answer, err := w.http.Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	_, err = io.Copy(io.Discard, answer.Body)
	require.Error(t, err, "the connection is broken off")
	_ = answer.Body.Close()
	w.remove("l")
}

// TestDiffOfOneInstant: the tar of a container in use holds what was there when it
// was asked for.
func TestDiffOfOneInstant(t *testing.T) {
	w := directories(t)
	w.create("c", "")
	dir := w.get("c")
	write(t, dir, "first", "first")
	r, err := http.NewRequest(http.MethodPost, "http://plugin/GraphDriver.Diff", strings.NewReader(`{"ID":"c"}`))
	require.NoError(t, err)
	answer, err := w.http.Do(r)
	require.NoError(t, err)
	write(t, dir, "second", "second")
	require.NoError(t, os.Remove(filepath.Join(dir, "first")))
	var names []string
	for tr := tar.NewReader(answer.Body); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		names = append(names, h.Name)
	}
	require.NoError(t, answer.Body.Close())
	require.Contains(t, names, "first")
	require.NotContains(t, names, "second")
	w.put("c")
}

// TestCrowd: two hundred calls at once, on few layers.
func TestCrowd(t *testing.T) {
	w := directories(t)
	w.create("base", "")
	w.in("base", func(dir string) { write(t, dir, "f", "f") })
	var wg sync.WaitGroup
	errs := make([]error, 200)
	for i := range errs {
		wg.Go(func() {
			id := fmt.Sprintf("c%d", i%20)
			q := request{ID: id, Parent: "base"}
			switch i / 20 {
			case 0, 1:
				errs[i] = w.call("CreateReadWrite", q, nil)
			case 2, 3, 4:
				errs[i] = errors.Join(w.call("Get", q, nil), w.call("Put", q, nil))
			case 5:
				errs[i] = w.call("Changes", q, nil)
			case 6:
				errs[i] = w.call("DiffSize", q, nil)
			case 7:
				errs[i] = w.call("Status", request{}, nil)
			default:
				errs[i] = w.call("Remove", q, nil)
			}
			for _, fine := range []string{"not found", "already exists", "is being read", "begun"} {
				if errs[i] != nil && strings.Contains(errs[i].Error(), fine) {
					errs[i] = nil
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
}

// TestSecondDaemon: another dockerd is refused while the first one lives.
func TestSecondDaemon(t *testing.T) {
	w := directories(t)
	w.plugin.mu.Lock()
	w.plugin.owner = processOf(int32(os.Getppid()))
	w.plugin.mu.Unlock()
	require.True(t, w.plugin.owner.lives())
	w.fails(fmt.Sprintf("dockerd with pid %d", os.Getppid()), "Init", request{Home: w.home})
	w.plugin.mu.Lock()
	w.plugin.owner.began = "it was another process that had the number"
	w.plugin.mu.Unlock()
	w.must("Init", request{Home: w.home}, nil)
	w.fails("no absolute path", "Init", request{Home: "relative"})
	w.fails("id map", "Init", request{Home: w.home, UIDMaps: []IDMap{{0, 1, -1}}})
}

// TestUserNamespace: owners are the host's in the tree and the container's in tars.
func TestUserNamespace(t *testing.T) {
	w := directories(t)
	maps := []IDMap{{0, 100000, 1000}}
	w.must("Init", request{Home: w.home, UIDMaps: maps, GIDMaps: maps}, nil)
	st, err := os.Stat(w.root)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o710), st.Mode().Perm())
	w.must("Init", request{Home: w.home}, nil)
	st, err = os.Stat(w.root)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), st.Mode().Perm(), "without a namespace nobody is let through")
	w.must("Init", request{Home: w.home, UIDMaps: maps, GIDMaps: maps}, nil)
	w.create("base", "")
	_, err = w.apply("base", "", bytes.NewReader(layer("f")))
	require.NoError(t, err)
	w.restart()
	w.create("c", "base")
	w.in("c", func(dir string) {
		inspect(t, dir, 0o40755, 100000, 100000)
		inspect(t, filepath.Join(dir, "f"), 0o100644, 100000, 100000)
		write(t, dir, "g", "g")
		require.NoError(t, os.Chown(filepath.Join(dir, "g"), 100005, 100006))
	})
	tr := tar.NewReader(bytes.NewReader(w.diff("c", "base")))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if h.Name == "g" {
			require.Equal(t, []int{5, 6}, []int{h.Uid, h.Gid})
		} else {
			require.Zero(t, h.Uid+h.Gid, h.Name)
		}
	}
	w.in("c", func(dir string) { require.NoError(t, os.Chown(filepath.Join(dir, "g"), 5, 6)) })
	r, err := http.NewRequest(http.MethodPost, "http://plugin/GraphDriver.Diff", strings.NewReader(`{"ID":"c","Parent":"base"}`))
	require.NoError(t, err)
	answer, err := w.http.Do(r)
	if err == nil { // it broke off after the first byte
		_, err = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
	require.Error(t, err, "a file of nobody's")
	_, _, err = state{UIDMaps: maps}.toHost(1000, 0)
	require.ErrorIs(t, err, snapshot.ErrInvalid)
}

// TestMetadata is what `docker inspect` shows.
func TestMetadata(t *testing.T) {
	w := directories(t)
	w.create("base", "")
	_, err := w.apply("base", "", bytes.NewReader(layer("f")))
	require.NoError(t, err)
	w.create("c", "base")
	dir := w.get("c")
	var m metadata
	w.must("GetMetadata", request{ID: "c"}, &m)
	require.Equal(t, dir, m.Metadata["MergedDir"])
	require.Equal(t, dirdriver.Name, m.Metadata["Driver"])
	w.must("GetMetadata", request{ID: "base"}, &m)
	require.Equal(t, "true", m.Metadata["Sealed"])
	for _, bytes := range []string{"BytesAdded", "BytesReferenced"} {
		require.Regexp(t, "^[1-9][0-9]*$", m.Metadata[bytes], bytes)
	}
	w.put("c")
	rows := w.rowsByLabel()
	require.Equal(t, "ok", rows["Health"])
	require.Equal(t, "1", rows["Layers"])
	require.Equal(t, "1", rows["Containers"])
	require.Equal(t, "test", rows["Version"])
	require.NotEmpty(t, rows["Shared"])
	require.NotEmpty(t, rows["Exclusive"])
}

// TestBrokenCall: a mistake in the plugin ends one call, not the process.
func TestBrokenCall(t *testing.T) {
	w := directories(t)
	broken := httptestServer(t, w.plugin.guard(w.plugin.json("Broken", func(context.Context, request) (any, error) { panic("a mistake") })))
	answer, err := http.Post(broken, "", strings.NewReader("{}"))
	require.NoError(t, err)
	raw, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.ErrorContains(t, decodeAnswer(t, answer.StatusCode, raw, nil), "a mistake")
	broken = httptestServer(t, w.plugin.guard(func(http.ResponseWriter, *http.Request) error { panic("another") }))
	answer, err = http.Post(broken, "", strings.NewReader("{}"))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusInternalServerError, answer.StatusCode)
}
