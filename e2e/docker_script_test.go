package e2e

import (
	"archive/tar"
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"blockstore.dev/blockstore/snapshot/layertar/treetest"
)

//go:embed testdata/docker/seed.py
var seedScript string

//go:embed testdata/docker/change.py
var changeScript string

//go:embed testdata/docker/beyond.py
var beyondScript string

// script is what an operator does in a day, on one daemon, and what he sees.
type script struct {
	t     *testing.T
	d     *dockerd
	ref   string // the image that all stands on
	dir   string // for archives and build contexts
	begun time.Time
	seen  record
	// images are those that were saved.
	images map[string]dockerImage

	// overlay: the driver is overlay2, which counts the lengths of symbolic links in a
	// layer's size. All others count the file sizes in its tar, but for the newest engine, which counts what
	// containerd keeps of it.
	overlay bool
	// written are the bytes of containers by what was seen of them: the newest engine's are the snapshotter's account.
	written map[string]int64
}

// archives that a script leaves behind.
func (s *script) saved() string { return filepath.Join(s.dir, "saved.tar") }

// run goes through the script. The images stay, for others to load, until clear.
func (s *script) run(archive string) {
	s.begun = time.Now()
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"load", func() { s.load(archive) }},
		{"seed", s.seed},
		{"change", s.change},
		{"copy and export", s.copyAndExport},
		{"commit", s.commit},
		{"build", s.build},
		{"build with BuildKit", s.buildKit},
		{"save", s.save},
		{"account", s.account},
	} {
		began := time.Now()
		step.do()
		s.t.Logf("%s: %.1f s", step.name, time.Since(began).Seconds())
	}
}

// load: the image is the archive's, by its id and its layers' digests.
func (s *script) load(archive string) {
	s.seen.add("load", s.d.docker("load", "-q", "-i", archive))
	s.seen.add("loaded image", s.imageID(s.ref))
	s.seen.add("loaded layers", s.layers(s.ref)...)
}

type dockerImage struct {
	ID          string `json:"Id"`
	Size        int64
	VirtualSize int64
	RootFS      struct{ Layers []string }
	GraphDriver struct {
		Name string
		Data map[string]string
	}
}

func (s *script) image(ref string) dockerImage {
	s.t.Helper()
	var i dockerImage
	s.d.api("/images/"+ref+"/json", &i)
	return i
}

func (s *script) imageID(ref string) string  { return s.image(ref).ID }
func (s *script) layers(ref string) []string { return s.image(ref).RootFS.Layers }

// begin starts a container that does nothing.
func (s *script) begin(name, ref string) {
	s.t.Helper()
	s.d.docker("run", "-d", "--name", name, "--hostname", "h", "--net", "none", ref, "sleep", "infinity")
}

// python runs a Python program in a container, without leaving compiled modules.
func (s *script) python(container, program string, args ...string) string {
	s.t.Helper()
	return s.d.dockerIn(program, append([]string{"exec", "-i", container, "python3", "-B", "-"}, args...)...)
}

// see records a running container's tree, and what Docker says of it.
func (s *script) see(name, container string, dirs ...string) {
	s.t.Helper()
	s.seen.add("tree of "+name, s.d.treeOf(container, dirs...).inSeconds().lines(s.begun)...)
	s.seeChanges(name, container)
}

func (s *script) seeChanges(name, container string) {
	s.t.Helper()
	s.seen.add("docker diff of "+name, lines(s.d.docker("diff", container))...)
	var c struct{ SizeRw int64 }
	s.d.api("/containers/"+container+"/json?size=1", &c)
	s.written[name] = c.SizeRw
	if !s.d.newest {
		s.seen.add("size of "+name, fmt.Sprint(c.SizeRw))
	}
}

// seed makes an image with files of every kind.
func (s *script) seed() {
	s.begin("seed", s.ref)
	s.seen.add("docker diff of a new container", s.d.docker("diff", "seed"))
	s.seen.add("seed.py", s.python("seed", seedScript))
	s.see("a container with every kind of file", "seed", "files", "etc")
	s.d.docker("commit", "seed", "test/seeded:1")
	s.d.docker("rm", "-f", "seed")
}

// change changes them in a container above, which is then stopped and started.
func (s *script) change() {
	s.begin("changed", "test/seeded:1")
	s.seen.add("docker diff of a container of a commit", s.d.docker("diff", "changed"))
	s.seen.add("tree of a container of a commit", s.d.treeOf("changed", "files").inSeconds().lines(s.begun)...)
	s.seen.add("change.py", s.python("changed", changeScript, "link")) // also a new name of the image's file
	s.see("a changed container", "changed")
	s.d.docker("kill", "changed")
	s.seeChanges("a stopped container", "changed")
	s.d.docker("start", "changed")
	s.see("a container that was started again", "changed", "files", "etc")
}

// copyAndExport copies out of containers that run and that do not, and into them.
func (s *script) copyAndExport() {
	s.seeTar("docker cp out of a running container", "cp", "changed:/files", "-")
	in := filepath.Join(s.dir, "in")
	require.NoError(s.t, os.MkdirAll(filepath.Join(in, "sub"), 0o750))
	for i, name := range []string{"one", "sub/two", "sub/three"} {
		file := filepath.Join(in, name)
		require.NoError(s.t, os.WriteFile(file, []byte("copied in: "+name), 0o640))
		require.NoError(s.t, os.Lchown(file, 100+i, 200+i))
		past(s.t, file)
	}
	require.NoError(s.t, os.Symlink("sub/two", filepath.Join(in, "link")))
	require.NoError(s.t, os.Link(filepath.Join(in, "one"), filepath.Join(in, "two")))
	s.d.docker("cp", "-a", in, "changed:/files/copied-running")
	s.d.docker("kill", "changed")
	s.d.docker("cp", in, "changed:/files/copied-stopped")
	s.d.docker("cp", filepath.Join(in, "one"), "changed:/files/keep")
	s.d.docker("cp", filepath.Join(in, "one"), "changed:/files/links/to-dir") // a directory behind a link
	s.seeTar("docker cp out of a stopped container", "cp", "changed:/files", "-")
	s.seeTar("docker export", "export", "changed")
	s.seeChanges("a container that was copied into", "changed")
}

// past gives a file a time that is before the script.
func past(t *testing.T, file string) {
	t.Helper()
	at := time.Unix(1_100_000_000, 123_456_789)
	require.NoError(t, os.Chtimes(file, at, at))
}

// seeTar records the tree in the tar that a command prints.
func (s *script) seeTar(name string, args ...string) {
	s.t.Helper()
	var found tree
	s.d.stream(func(in io.Reader) (err error) { found, err = treeOfTar(in); return err }, args...)
	s.seen.add(name, found.lines(s.begun)...)
}

// commit makes an image of what change left and runs it.
func (s *script) commit() {
	s.d.docker("commit", "-c", "ENV A=b", "changed", "test/changed:1")
	s.begin("recommitted", "test/changed:1")
	s.seen.add(commitTree, s.d.treeOf("recommitted").inSeconds().lines(s.begun)...)
	s.seen.add("docker diff of the commit's container", s.d.docker("diff", "recommitted"))
	s.seen.add("layers of the commit", fmt.Sprint(len(s.layers("test/changed:1"))))
	s.d.docker("rm", "-f", "recommitted")
}

// commitTree is the name of a record.
const commitTree = "tree of the changed container's commit"

const dockerfile = `FROM %s
ENV APP=/srv/app
WORKDIR /srv/app
COPY . .
COPY --chown=7:8 bin/ /usr/local/bin/
ADD extra.tar /srv/extra/
RUN ["python3", "-B", "seed.py"]
RUN ["python3", "-B", "change.py"]
RUN rm -rf /usr/share/doc /srv/app/tree/b && mkdir -p /srv/app/tree/b && echo new >/srv/app/tree/b/new
RUN chmod -R go-rwx tree && chown -R 9:10 bin && chmod 4711 bin/tool
RUN ln tree/a/1 tree/a/hard && ln -s ../tree/a tree/to-a && ln /etc/debian_version tree/debian_version
RUN mv tree/a tree/moved && : >tree/moved/2 && rm seed.py
RUN touch -d "2004-05-06 07:08:09.123456789" tree/moved/2 tree/moved tree
LABEL made=here
CMD ["sleep", "infinity"]
`

const dockerfileStages = `FROM %s AS one
WORKDIR /out
COPY . .
RUN python3 -B seed.py && rm /files/socket
RUN chown -R 11:12 tree && ln tree/a/1 tree/a/hard && cp -a /files/. /out/files
FROM %s AS two
RUN mkdir -p /two/deep && echo two >/two/deep/file && chmod 700 /two/deep
FROM %s
COPY --from=one /out/ /out/
COPY --from=two /two /two
RUN rm -r /out/tree/b && echo changed >/out/tree/a/2 && mv /two/deep /two/moved
CMD ["sleep", "infinity"]
`

// context makes a build's context.
func (s *script) context(dockerfile string, args ...any) string {
	dir := filepath.Join(s.dir, "context")
	require.NoError(s.t, os.RemoveAll(dir))
	for name, content := range map[string]string{
		"Dockerfile": fmt.Sprintf(dockerfile, args...), "seed.py": seedScript, "change.py": changeScript,
		"tree/a/1": "1\n", "tree/a/2": "2\n", "tree/b/3": "3\n", "bin/tool": "#!/bin/sh\n",
	} {
		file := filepath.Join(dir, name)
		require.NoError(s.t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(s.t, os.WriteFile(file, []byte(content), 0o755))
	}
	var extra bytes.Buffer
	w := tar.NewWriter(&extra)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 1, Gid: 2},
		{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o640, Uid: 3, Gid: 4},
		{Name: "d/l", Typeflag: tar.TypeLink, Linkname: "d/f"},
		{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "d/f"},
	} {
		h.ModTime = time.Unix(1_100_000_000, 0)
		require.NoError(s.t, w.WriteHeader(&h))
	}
	require.NoError(s.t, w.Close())
	require.NoError(s.t, os.WriteFile(filepath.Join(dir, "extra.tar"), extra.Bytes(), 0o644))
	require.NoError(s.t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		past(s.t, path)
		return err
	}))
	return dir
}

func (s *script) build() {
	s.d.docker("build", "-q", "--network", "none", "-t", "test/built:1", s.context(dockerfile, s.ref))
	s.seeImage("docker build", "test/built:1", "srv", "files", "etc", "usr/local", "usr/share")
}

func (s *script) buildKit() {
	cmd := []string{"build", "--progress", "plain", "--network", "none", "-t", "test/kit:1"}
	dir := s.context(dockerfileStages, s.ref, s.ref, s.ref)
	s.d.buildKit = true
	s.d.docker(append(cmd, dir)...)
	s.d.buildKit = false
	s.seeImage("BuildKit", "test/kit:1", "out", "two", "etc")
}

// seeImage records a built image: its steps, and the tree in a container.
func (s *script) seeImage(name, ref string, dirs ...string) {
	var history []struct{ CreatedBy string }
	s.d.api("/images/"+ref+"/history", &history)
	var steps []string
	for _, h := range history {
		steps = append(steps, h.CreatedBy)
	}
	s.seen.add(name+": history", steps...)
	s.begin("built", ref)
	s.seen.add(name+": tree", s.d.treeOf("built", dirs...).inSeconds().lines(s.begun)...)
	s.d.docker("rm", "-f", "built")
}

// save writes all images into one archive. Every layer in it has the digest that its
// image's configuration says.
func (s *script) save() {
	refs := []string{"test/built:1", "test/kit:1", "test/changed:1", "test/seeded:1", s.ref}
	s.d.docker(append([]string{"save", "-o", s.saved()}, refs...)...)
	a := readArchive(s.t, s.saved())
	s.images = map[string]dockerImage{}
	for _, ref := range refs {
		s.images[ref] = s.image(ref)
		image := a.image(ref)
		require.Equal(s.t, image.diffIDs, s.images[ref].RootFS.Layers, ref)
		var size int64
		for i, l := range image.layers {
			require.Equal(s.t, image.diffIDs[i], a.layers[l].digest, "layer %d of %s", i, ref)
			size += a.layers[l].size
		}
		if !s.overlay && !s.d.newest {
			require.Equal(s.t, size, s.images[ref].Size, "the size of %s", ref)
		}
		s.seen.add("layers of "+ref, fmt.Sprint(len(image.layers)))
		if ref != s.ref {
			top := a.layers[image.layers[len(image.layers)-1]].tree
			s.seen.add("top layer of "+ref, top.contents().inSeconds().lines(s.begun)...)
		}
	}
}

// archived is a docker archive as read.
type archived struct {
	t        *testing.T
	manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	configs map[string][]byte
	layers  map[string]archivedLayer
}

type archivedLayer struct {
	digest string
	size   int64 // of all files
	tree   tree
}

type archivedImage struct{ diffIDs, layers []string }

// readArchive reads an archive of docker save: of Docker's own layout, or an OCI layout with Docker's manifest beside
// it, whose layers may be compressed.
func readArchive(t *testing.T, file string) archived {
	t.Helper()
	a := archived{t: t, configs: map[string][]byte{}, layers: map[string]archivedLayer{}}
	eachFile(t, file, func(h *tar.Header, in io.Reader) {
		if h.Name == "manifest.json" {
			require.NoError(t, json.NewDecoder(in).Decode(&a.manifest))
		}
	})
	config, layer := map[string]bool{}, map[string]bool{}
	for _, m := range a.manifest {
		config[m.Config] = true
		for _, l := range m.Layers {
			layer[l] = true
		}
	}
	links := map[string]string{}
	eachFile(t, file, func(h *tar.Header, in io.Reader) {
		var err error
		switch {
		case h.Typeflag == tar.TypeSymlink: // a layer that is there already
			links[h.Name] = path.Join(path.Dir(h.Name), h.Linkname)
		case layer[h.Name]:
			content := bufio.NewReader(in)
			found, sum := readLayer(t, compression(content), content)
			a.layers[h.Name] = archivedLayer{sum.String(), found.size(), found}
		case config[h.Name]:
			a.configs[h.Name], err = io.ReadAll(in)
			require.NoError(t, err)
		}
	})
	for name, target := range links {
		a.layers[name] = a.layers[target]
	}
	return a
}

// compression is how a layer begins that Docker's manifest says nothing of.
func compression(layer *bufio.Reader) string {
	switch first, _ := layer.Peek(4); {
	case bytes.HasPrefix(first, []byte{0x1f, 0x8b}): // RFC 1952
		return "gzip"
	case bytes.Equal(first, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878
		return "zstd"
	}
	return ""
}

// eachFile calls look with all that a tar holds.
func eachFile(t *testing.T, file string, look func(*tar.Header, io.Reader)) {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	for in := tar.NewReader(f); ; {
		h, err := in.Next()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		look(h, in)
	}
}

func (a archived) image(ref string) archivedImage {
	a.t.Helper()
	for _, m := range a.manifest {
		if slices.Contains(m.RepoTags, ref) {
			var config struct {
				RootFS struct {
					DiffIDs []string `json:"diff_ids"`
				}
			}
			require.NoError(a.t, json.Unmarshal(a.configs[m.Config], &config))
			require.Len(a.t, m.Layers, len(config.RootFS.DiffIDs))
			return archivedImage{config.RootFS.DiffIDs, m.Layers}
		}
	}
	require.Fail(a.t, "not in the archive: "+ref)
	return archivedImage{}
}

// account: what Docker says that everything takes.
func (s *script) account() {
	var df struct {
		Images     []struct{ RepoTags []string }
		Containers []struct {
			Names  []string
			SizeRw int64
		}
	}
	s.d.api("/system/df", &df)
	var lines []string
	for _, i := range df.Images {
		lines = append(lines, fmt.Sprintf("image %v", i.RepoTags))
	}
	for _, c := range df.Containers {
		if s.d.newest {
			c.SizeRw = 0
		}
		lines = append(lines, fmt.Sprintf("container %v of %d bytes", c.Names, c.SizeRw))
	}
	s.seen.add("system df", lines...)
	ps := s.d.docker("ps", "-as", "--format", "{{.Names}} {{.Size}}")
	own, _, _ := strings.Cut(ps, " (virtual") // the rest is the images' size
	if s.d.newest {
		own, _, _ = strings.Cut(ps, " ")
	}
	s.seen.add("ps -s", own)
}

// exchange loads what another daemon has saved: the same images, by their ids and their
// layers' digests, with the same trees.
func (s *script) exchange(other *script) {
	s.d.docker("load", "-q", "-i", other.saved())
	for ref, image := range other.images {
		require.Equal(s.t, image.ID, s.imageID(ref), ref)
		require.Equal(s.t, image.RootFS, s.image(ref).RootFS, ref)
	}
	s.begin("exchanged", "test/changed:1")
	var found record
	found.add(commitTree, s.d.treeOf("exchanged").inSeconds().lines(other.begun)...)
	require.Empty(s.t, other.seen.difference(&found, commitTree))
	s.d.docker("rm", "-f", "exchanged")
}

// beyond is what none of Docker's own drivers can do: the tree that a process sees is
// the one that a commit has.
func (s *script) beyond() {
	s.begin("beyond", "test/seeded:1")
	s.python("beyond", beyondScript)
	before := s.d.treeOf("beyond", "files")
	for _, name := range []string{"written.1", "written.3"} {
		require.Equal(s.t, before["files/hard/written.2"], before["files/hard/"+name])
	}
	require.Equal(s.t, "files/: grown.5 hard/grown.1 hard/grown.2 hard/grown.3 hard/grown.4", before["files/grown.5"].Links)
	require.Equal(s.t, []string{
		"A /files/grown.5", "A /files/hard/grown.4",
		"C /files", "C /files/attr", "C /files/hard", "C /files/hard/kept.1", "C /files/hard/kept.2", "C /files/hard/kept.3",
		"C /files/hard/written.1", "C /files/hard/written.2", "C /files/hard/written.3", "C /files/keep", "C /files/same", "C /files/touch",
		"D /files/hard/shrunk.1",
	}, sorted(lines(s.d.docker("diff", "beyond"))))
	s.d.docker("commit", "beyond", "test/beyond:1")
	s.begin("committed", "test/beyond:1")
	require.Empty(s.t, treetest.DifferenceOf(before, s.d.treeOf("committed", "files")))
	s.d.docker("rm", "-f", "beyond", "committed")
	s.d.docker("rmi", "test/beyond:1")
}

// clear removes everything, by the verbs that people use for it.
func (s *script) clear() {
	s.d.docker("start", "changed")
	s.d.docker("rm", "-f", "changed")
	s.d.docker("system", "prune", "-f")
	s.d.docker("rmi", "test/changed:1", "test/seeded:1", s.ref)
	s.d.docker("system", "prune", "-a", "-f")
	s.empty()
}

// empty: Docker knows of nothing any more.
func (s *script) empty() {
	s.t.Helper()
	require.Empty(s.t, s.d.docker("images", "-aq"))
	require.Empty(s.t, s.d.docker("ps", "-aq"))
	var df struct {
		LayersSize int64
		BuildCache []any
	}
	s.d.api("/system/df", &df)
	require.Zero(s.t, df.LayersSize)
	require.Empty(s.t, df.BuildCache)
}
