package e2e

import (
	"path/filepath"
	"testing"
)

// dockerArchive is a stage of the real image as a docker archive, and its name in there.
func dockerArchive(t *testing.T, tag string) (file, ref string) {
	t.Helper()
	return filepath.Join(realImage(t), tag+".docker.tar"), "real/" + tag + ":latest"
}

// smallArchive is the real image's second stage, Debian with Python: two layers, 120 MB.
func smallArchive(t *testing.T) (file, ref string) {
	t.Helper()
	return dockerArchive(t, "python")
}

// newScript is a script on a dockerd with that storage driver.
func newScript(t *testing.T, d *dockerd, ref string) *script {
	t.Helper()
	return &script{t: t, d: d, ref: ref, dir: scratch(t), written: map[string]int64{}}
}

// TestDockerLikeOverlay2: what people do with docker gives on our store what it gives
// on overlay2, and leaves nothing behind.
func TestDockerLikeOverlay2(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute: two dockerds go through a long script")
	}
	archive, ref := smallArchive(t)
	v := newStore(t).serve()
	theirs := newScript(t, newDockerd(t, scratch(t), "overlay2"), ref)
	theirs.overlay = true
	theirs.run(archive)
	ours := newScript(t, v.dockerd(), ref)
	ours.run(archive)
	theirs.seen.mustEqual(t, &ours.seen, "overlay2", "blockstore")
	v.mustAgree(ours.d)
	ours.beyond()
	ours.exchange(theirs)
	theirs.exchange(ours)
	ours.clear()
	v.mustBeEmpty()
	theirs.clear()
}
