package matrix

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
	"blockstore.dev/blockstore/snapshot"
)

// changed is a container in which a few of many files were changed.
const changed = "changed"

// changedContainer makes it: content, mode, a new file, and one that is gone.
func changedContainer(ctx context.Context, s *stand) error {
	names := s.scale.smallNames()
	layer, err := s.manyLayer(ctx, names)
	if err != nil {
		return err
	}
	if err := s.Create(ctx, changed, layer); err != nil {
		return err
	}
	dir, err := s.Mount(ctx, changed)
	if err != nil {
		return err
	}
	at := func(i int) string { return filepath.Join(dir, names[i*len(names)/4]) }
	return errors.Join(
		fourBytes(at(0), 0), os.Chmod(at(1), 0o600), os.Remove(at(2)), os.Rename(at(3), at(3)+".new"),
		fillRandom(filepath.Join(dir, "new"), 4<<10, 1), s.Unmount(ctx, changed), perf.Flush(s.site.Dir))
}

// manyLayer makes a layer with files of 4 KiB, and names it. Ours is loaded, since what
// is committed on it has to know its digest.
func (s *stand) manyLayer(ctx context.Context, names []string) (string, error) {
	ours, ok := s.Store.(*peers.Blockstore)
	if !ok {
		return many, s.Layer(ctx, many, "", func(root string) error { return manyFiles(root, names) })
	}
	file := filepath.Join(s.site.Dir, "many.tar")
	if err := writeTar(file, 1, map[string]int64{}, names); err != nil {
		return "", err
	}
	source, err := layerFrom(file)
	if err != nil {
		return "", err
	}
	_, err = ours.Load(ctx, snapshot.LoadRequest{Layers: []snapshot.LayerSource{source}})
	return string(source.DiffID), err // of the lowest layer that is the name
}

// onlyOursAndOverlay: the others do not know what was changed.
func onlyOursAndOverlay(p peers.Peer) string {
	if p.Ours() || p.Overlay() {
		return ""
	}
	return "it has no way of its own to say what was changed"
}

// diff is W7.
func diff() workload {
	return workload{
		name:  "W7",
		title: "diff: what was changed in a container of many small files, five of them changed, made or removed, as a tar to nowhere; overlay's is a tar of its upper directory, which knows it already",
		only:  onlyOursAndOverlay, programs: []string{"tar"}, counted: once,
		prepare: changedContainer,
		round: func(ctx context.Context, s *stand) error {
			for range s.scale.Operations {
				if err := s.timed(row("diff of a container"), func() error { return s.diff(ctx) }); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (s *stand) diff(ctx context.Context) error {
	if ours, ok := s.Store.(*peers.Blockstore); ok {
		_, err := ours.WriteDiff(ctx, changed, io.Discard)
		return err
	}
	_, err := perf.Output(ctx, "tar", "-c", "-f", "/dev/null", "--xattrs", "-C", s.Store.(peers.Upper).Upper(changed), ".")
	return err
}

// commit is W8.
func commit() workload {
	return workload{
		name:    "W8",
		title:   "commit: the container of W7 becomes a layer, durably; with overlay a copy of its upper directory, written out",
		only:    onlyOursAndOverlay,
		counted: once,
		prepare: changedContainer,
		round: func(ctx context.Context, s *stand) error {
			for range s.scale.Operations {
				if err := s.commit(ctx); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (s *stand) commit(ctx context.Context) error {
	m := row("commit of a container").withDisks()
	if ours, ok := s.Store.(*peers.Blockstore); ok {
		var layer snapshot.Info
		err := s.timed(m, func() (err error) {
			_, layer, err = ours.Commit(ctx, changed, snapshot.CommitRequest{})
			return err
		})
		if err != nil {
			return err
		}
		return ours.Remove(ctx, layer.Name)
	}
	upper := s.Store.(peers.Upper).Upper(changed)
	copied := upper + "-" + s.name("copy")
	err := s.onDisk(m, func() error {
		_, err := perf.Output(ctx, "cp", "-a", upper, copied)
		return err
	})
	return errors.Join(err, os.RemoveAll(copied))
}
