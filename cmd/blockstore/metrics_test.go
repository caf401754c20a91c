package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// scrape reads what Prometheus would, through dial, and wants it to follow Prometheus's rules.
func scrape(dial func(context.Context) (net.Conn, error)) (string, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: patience}
	answer, err := client.Get("http://localhost/metrics")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", answer.Status, body)
	}
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	if err == nil && len(problems) > 0 {
		err = fmt.Errorf("promlint: %v", problems)
	}
	return string(body), err
}

// cmdScrape reads the metrics of the server at a socket into a file.
func cmdScrape(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: scrape SOCKET OUT")
	}
	path := ts.MkAbs(args[0])
	text, err := scrape(func(ctx context.Context) (net.Conn, error) { return dial(ctx, path) })
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

func TestMetricsAddress(t *testing.T) {
	for text, want := range map[string]string{
		"unix:/run/blockstore/metrics.sock": "/run/blockstore/metrics.sock",
		"unix:/run//a/../m.sock":            "/run/m.sock",
		"127.0.0.1:9750":                    "127.0.0.1:9750",
		"127.8.8.8:1":                       "127.8.8.8:1",
		"localhost:9750":                    "127.0.0.1:9750",
		"[::1]:9750":                        "[::1]:9750",
		"[::ffff:127.0.0.1]:9750":           "[::ffff:127.0.0.1]:9750",
	} {
		m, err := parseMetricsAddress(text)
		require.NoError(t, err, text)
		if m.path != "" {
			require.Equal(t, want, m.path)
		} else {
			require.Equal(t, want, m.tcp.String())
		}
	}
	for text, why := range map[string]string{
		"unix:":                "absolute",
		"unix:m.sock":          "absolute",
		"unix:@name":           "abstract",
		"/run/metrics.sock":    "no address with a port",
		"127.0.0.1":            "no address with a port",
		":9750":                "every network",
		"0.0.0.0:9750":         "no loopback address",
		"[::]:9750":            "no loopback address",
		"10.0.0.1:9750":        "no loopback address",
		"[fe80::1%lo]:9750":    "no loopback address",
		"example.org:9750":     "names are not looked up",
		"127.0.0.1:metrics":    "no IP address with a port number",
		"127.0.0.1:99999":      "no IP address with a port number",
		"localhost.evil.:9750": "names are not looked up",
	} {
		_, err := parseMetricsAddress(text)
		require.ErrorContains(t, err, why, text)
		require.ErrorContains(t, err, "unix:/PATH", text)
		require.Equal(t, exitUsage, outcomeOf(err).code, text)
	}
}

// TestMetricsOverLoopback: alone, without another door, and on TCP.
func TestMetricsOverLoopback(t *testing.T) {
	s := newServed(t, t.TempDir()+"/store")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())
	r := s.serve("--metrics", addr)
	code, _, errs := s.run("create", "--name", "web")
	require.Equal(t, exitUsage, code, errs)
	code, _, errs = s.run("info")
	require.Equal(t, exitDone, code, errs)
	over := func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", addr) }
	text, err := scrape(over)
	require.NoError(t, err)
	require.Contains(t, text, "blockstore_operations_total{door=\"cli\",method=\"info\",outcome=\"ok\"} 1\n")
	require.Contains(t, text, "blockstore_healthy 1\n")
	require.NotContains(t, text, `method="create"`, "a verb that was not begun")
	r.stop()
	require.Equal(t, exitDone, <-r.code, said(r.app.stderr))
	r.code = nil
	_, err = over(t.Context())
	require.Error(t, err, "nobody listens any more")
}

// TestMetricsOfDoors: each door's calls are counted as its own.
func TestMetricsOfDoors(t *testing.T) {
	s := newServed(t, t.TempDir()+"/store")
	dir := t.TempDir()
	docker, containerd, at := filepath.Join(dir, "docker.sock"), filepath.Join(dir, "containerd.sock"), filepath.Join(dir, "metrics.sock")
	s.serve("--docker-socket", docker, "--containerd-socket", containerd, "--metrics", "unix:"+at)
	post := func(method, body string) {
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, docker) }}
		defer transport.CloseIdleConnections()
		answer, err := (&http.Client{Transport: transport, Timeout: patience}).Post("http://localhost/"+method, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
	}
	post("GraphDriver.Exists", `{"ID":"none"}`)
	post("GraphDriver.Nonsense", `{}`)
	client, err := grpc.NewClient("unix://"+containerd, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	_, err = snapshotsapi.NewSnapshotsClient(client).Stat(t.Context(), &snapshotsapi.StatSnapshotRequest{Snapshotter: "plugin", Key: "none"})
	require.Error(t, err)
	require.NoError(t, client.Close())
	for _, want := range []string{
		`{door="docker",method="Exists",outcome="ok"} 1`,
		`{door="docker",method="unknown",outcome="error"} 1`,
		`{door="containerd",method="Snapshots.Stat",outcome="not_found"} 1`,
	} {
		require.Eventually(t, func() bool { // a call may be counted behind its answer
			text, err := scrape(func(ctx context.Context) (net.Conn, error) { return dial(ctx, at) })
			require.NoError(t, err)
			return strings.Contains(text, "blockstore_operations_total"+want+"\n")
		}, patience, time.Millisecond, want)
	}
}
