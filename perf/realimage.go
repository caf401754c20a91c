package perf

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// LayerTars writes the layers of an image in an OCI layout, DIR:REF, into dir as plain
// tars, lowest first, so that decompression is in nobody's time.
func LayerTars(from, dir string) (tars []string, err error) {
	layout, ref, _ := strings.Cut(from, ":")
	blob := func(d v1.Descriptor) string {
		return filepath.Join(layout, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded())
	}
	var index v1.Index
	if err := readJSON(filepath.Join(layout, "index.json"), &index); err != nil {
		return nil, err
	}
	for _, image := range index.Manifests {
		if image.Annotations[v1.AnnotationRefName] != ref {
			continue
		}
		var manifest v1.Manifest
		if err := readJSON(blob(image), &manifest); err != nil {
			return nil, err
		}
		for i, layer := range manifest.Layers {
			to := filepath.Join(dir, fmt.Sprintf("layer-%d.tar", i))
			if err := decompress(blob(layer), to); err != nil {
				return nil, err
			}
			tars = append(tars, to)
		}
		return tars, nil
	}
	return nil, fmt.Errorf("--image: no %q in %s", ref, layout)
}

func readJSON(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func decompress(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	plain, err := plainOf(bufio.NewReader(in))
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, plain)
	return errors.Join(err, out.Close())
}

// plainOf knows gzip and zstd by their first bytes; anything else is plain.
func plainOf(r *bufio.Reader) (io.Reader, error) {
	begin, err := r.Peek(4)
	switch {
	case err != nil:
		return nil, err
	case begin[0] == 0x1f && begin[1] == 0x8b:
		return gzip.NewReader(r)
	case string(begin) == "\x28\xb5\x2f\xfd":
		return zstd.NewReader(r)
	}
	return r, nil
}
