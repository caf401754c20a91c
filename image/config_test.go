package image

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot"
)

func TestNewConfigKeepsTheParent(t *testing.T) {
	one, two := digest.FromString("1"), digest.FromString("2")
	parent := []byte(`{"architecture":"arm64","os":"linux","os.version":"x","config":{"Cmd":["sh"],"Odd":{"a":1}},"container":"c1",
		"container_config":{"Cmd":["old"]},"created":"2020-01-01T00:00:00Z","docker_version":"20.10","new-key":[1,2],
		"history":[{"created":"2020-01-01T00:00:00Z","created_by":"ENV","empty_layer":true}],
		"rootfs":{"type":"layers","diff_ids":["` + one.String() + `"]}}`)
	got, err := NewConfig(parent, snapshot.Info{DiffID: two}, ConfigOptions{
		Author: "me", Message: "why", CreatedBy: "commit", Created: someTime, Platform: "linux/riscv64",
	})
	require.NoError(t, err)
	require.JSONEq(t, `{"architecture":"arm64","os":"linux","os.version":"x","config":{"Cmd":["sh"],"Odd":{"a":1}},"author":"me",
		"created":"2024-05-06T07:08:09Z","docker_version":"20.10","new-key":[1,2],
		"history":[{"created":"2020-01-01T00:00:00Z","created_by":"ENV","empty_layer":true},{"created":"2020-01-01T00:00:00Z"},
		{"created":"2024-05-06T07:08:09Z","author":"me","created_by":"commit","comment":"why"}],
		"rootfs":{"type":"layers","diff_ids":["`+one.String()+`","`+two.String()+`"]}}`, string(got))
}

func TestNewConfigWithoutParent(t *testing.T) {
	got, err := NewConfig(nil, snapshot.Info{DiffID: digest.FromString("1")}, ConfigOptions{Platform: "linux/arm/v6"})
	require.NoError(t, err)
	c, err := parseConfig(got, "")
	require.NoError(t, err)
	require.Equal(t, "arm", c.Architecture)
	require.Equal(t, "v6", c.Variant)
	require.WithinDuration(t, time.Now(), c.Created.Time, time.Minute)
	require.Len(t, c.RootFS.DiffIDs, 1)
	require.Len(t, c.History, 1)
	_, err = NewConfig([]byte("{"), snapshot.Info{}, ConfigOptions{})
	require.ErrorContains(t, err, "parent's config")
}

func TestChanges(t *testing.T) {
	for change, want := range map[string]string{
		`CMD ["a", "b c"]`:       `{"Cmd":["a","b c"]}`,
		`cmd echo $HOME`:         `{"Cmd":["/bin/sh","-c","echo $HOME"]}`,
		`ENTRYPOINT ["/x"]`:      `{"Entrypoint":["/x"]}`,
		`CMD`:                    `{}`,
		`ENV A=1 B="2 3" C=4\ 5`: `{"Env":["A=1","B=2 3","C=4 5"]}`,
		`ENV A one two`:          `{"Env":["A=one two"]}`,
		`LABEL a=b c='d "e"'`:    `{"Labels":{"a":"b","c":"d \"e\""}}`,
		`EXPOSE 80 53/UDP`:       `{"ExposedPorts":{"80/tcp":{},"53/udp":{}}}`,
		`VOLUME ["/a b", "/c"]`:  `{"Volumes":{"/a b":{},"/c":{}}}`,
		`VOLUME /a /b`:           `{"Volumes":{"/a":{},"/b":{}}}`,
		`USER me:us`:             `{"User":"me:us"}`,
		`WORKDIR /a/../b`:        `{"WorkingDir":"/b"}`,
		`WORKDIR c`:              `{"WorkingDir":"/c"}`,
		`STOPSIGNAL SIGINT`:      `{"StopSignal":"SIGINT"}`,
	} {
		c := object{}
		require.NoError(t, applyChanges(c, []string{change}), change)
		require.JSONEq(t, want, string(c["config"]), change)
	}
	for _, change := range []string{"", "RUN x", "USER", "EXPOSE x", "EXPOSE 0", "EXPOSE 70000", "EXPOSE 80/x", "ENV A", `ENV A="b`, "ENV =x", `LABEL a\`} {
		require.ErrorIs(t, applyChanges(object{}, []string{change}), snapshot.ErrInvalid, change)
	}
	c := object{"config": json.RawMessage(`{"Env":["A=1","B=2"],"WorkingDir":"/w","Labels":null,"Keep":1}`)}
	require.NoError(t, applyChanges(c, []string{"ENV A=3", "WORKDIR x", "LABEL q=r"}))
	require.JSONEq(t, `{"Env":["A=3","B=2"],"WorkingDir":"/w/x","Labels":{"q":"r"},"Keep":1}`, string(c["config"]))
}

func TestHistory(t *testing.T) {
	layers := []snapshot.Info{{Name: "l1", Usage: snapshot.Usage{Added: 10}}, {Name: "l2", Usage: snapshot.Usage{Added: 20}}}
	rows, err := History([]byte(`{"history":[{"created_by":"ADD","created":"2024-05-06T07:08:09Z"},{"created_by":"ENV","empty_layer":true},
		{"created_by":"RUN","comment":"c","created":"bad"}]}`), layers)
	require.NoError(t, err)
	require.Equal(t, []HistoryRow{
		{CreatedBy: "RUN", Comment: "c", Layer: "l2", Size: 20}, {CreatedBy: "ENV"}, {CreatedBy: "ADD", Created: someTime, Layer: "l1", Size: 10},
	}, rows)
	for _, config := range []string{`{"created":"2024-05-06T07:08:09Z"}`, `{"created":"2024-05-06T07:08:09Z","history":"none"}`} {
		rows, err = History([]byte(config), layers)
		require.NoError(t, err)
		require.Equal(t, []HistoryRow{{Created: someTime, Layer: "l2", Size: 20}, {Created: someTime, Layer: "l1", Size: 10}}, rows)
	}
	rows, err = History([]byte(`{"history":[{},{},{}]}`), layers)
	require.NoError(t, err)
	require.Len(t, rows, 3)
	_, err = History([]byte(`nothing`), layers)
	require.Error(t, err)
}

func TestImport(t *testing.T) {
	root := zooLayer(t, "root")
	for name, pack := range packers {
		for _, from := range []string{"file", "stdin"} {
			t.Run(name+"/"+from, func(t *testing.T) {
				s := newFakeStore()
				stages := map[Stage]bool{}
				o := ImportOptions{
					Ref: "docker.io/library/mine", Message: "hello", Changes: []string{`CMD ["sh"]`}, Created: someTime, SpoolDir: t.TempDir(),
					Progress: func(e Event) { stages[e.Stage] = true },
				}
				source := writeFile(t, pack(t, root))
				if from == "stdin" {
					source, o.Stdin = "-", io.MultiReader(bytes.NewReader(pack(t, root)))
				}
				l, err := Import(context.Background(), s, source, o)
				require.NoError(t, err)
				require.Equal(t, []string{"mine:latest"}, l.Refs)
				require.Equal(t, root, s.layers[digest.FromBytes(root).String()].tar)
				require.Equal(t, digest.FromBytes(l.Config), l.ID)
				require.Contains(t, string(l.Config), `"Cmd":["sh"]`)
				require.Equal(t, map[Stage]bool{StageHash: true, StageUnpack: true, StageSpool: from == "stdin"},
					map[Stage]bool{StageHash: stages[StageHash], StageUnpack: stages[StageUnpack], StageSpool: stages[StageSpool]})
			})
		}
	}
}

func TestImportRefuses(t *testing.T) {
	s := newFakeStore()
	ctx := context.Background()
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "long text": bytes.Repeat([]byte("hello "), 500), "cut gzip": gzipped(t, zooLayer(t, "x"))[:50],
		"xz": []byte("\xfd7zXZ\x00"), "gzip of text": gzipped(t, bytes.Repeat([]byte("hello "), 500)),
	} {
		path := writeFile(t, data)
		_, err := Import(ctx, s, path, ImportOptions{})
		require.ErrorIs(t, err, ErrArchive, name)
		require.ErrorContains(t, err, path)
	}
	good := writeFile(t, zooLayer(t, "x"))
	_, err := Import(ctx, s, good, ImportOptions{Ref: "Bad"})
	require.ErrorIs(t, err, ErrReference)
	_, err = Import(ctx, s, good, ImportOptions{Changes: []string{"RUN x"}})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
	_, err = Import(ctx, s, good, ImportOptions{Platform: "x"})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
	_, err = Import(ctx, s, "-", ImportOptions{})
	require.ErrorIs(t, err, snapshot.ErrInvalid)
	require.True(t, s.empty())
}
