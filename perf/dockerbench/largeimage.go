package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"

	"blockstore.dev/blockstore/perf"
)

const (
	largeRef  = "bstest/large:1"
	largeFile = "/large"
	writer    = "/dockerbench" // this program, in the image
)

// largeImage is an image of one layer with a large file, and with this program to
// write into it. It is made anew each time rather than kept: making it takes
// less time than reading it.
type largeImage struct {
	program []byte
	size    int64
	diffID  string
}

func newLargeImage(size int64) (largeImage, error) {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return largeImage{}, err
	}
	if err := mustBeStatic(program); err != nil {
		return largeImage{}, err
	}
	i := largeImage{program: program, size: size}
	h := sha256.New()
	if err := i.writeLayer(h); err != nil {
		return i, err
	}
	i.diffID = "sha256:" + hex.EncodeToString(h.Sum(nil))
	return i, nil
}

// mustBeStatic: there is no loader in the image.
func mustBeStatic(program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return errors.New("this program needs a dynamic loader: build it with CGO_ENABLED=0")
	}
	return nil
}

// writeLayer writes the layer's tar, the same each time. The file's bytes are
// random, so that no file system can make less of them.
func (i largeImage) writeLayer(w io.Writer) error {
	t := tar.NewWriter(w)
	if err := t.WriteHeader(&tar.Header{Name: writer[1:], Mode: 0o755, Size: int64(len(i.program))}); err != nil {
		return err
	}
	if _, err := t.Write(i.program); err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: largeFile[1:], Mode: 0o644, Size: i.size}); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{})
	if _, err := io.CopyBuffer(t, io.LimitReader(random, i.size), make([]byte, 1<<20)); err != nil {
		return err
	}
	return t.Close()
}

// layerSize is the length of what writeLayer writes: two headers, the contents in
// whole blocks, and two empty blocks.
func (i largeImage) layerSize() int64 {
	whole := func(n int64) int64 { return (n + 511) / 512 * 512 }
	return 2*512 + whole(int64(len(i.program))) + whole(i.size) + 2*512
}

// writeArchive writes what docker load reads.
func (i largeImage) writeArchive(w io.Writer) error {
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{i.diffID}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{largeRef}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	for name, text := range map[string][]byte{"config.json": config, "manifest.json": manifest} {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := io.Copy(t, bytes.NewReader(text)); err != nil {
			return err
		}
	}
	if err := t.WriteHeader(&tar.Header{Name: "layer.tar", Mode: 0o644, Size: i.layerSize()}); err != nil {
		return err
	}
	if err := i.writeLayer(t); err != nil {
		return err
	}
	return t.Close()
}

// load gives the image to a peer.
func (i largeImage) load(ctx context.Context, p *peer) error {
	r, w := io.Pipe()
	made := make(chan struct{})
	go func() {
		defer close(made)
		w.CloseWithError(i.writeArchive(w))
	}()
	cmd := p.command(ctx, "load")
	cmd.Stdin = r
	_, err := perf.OutputOf(cmd)
	_ = r.Close()
	<-made
	return err
}
