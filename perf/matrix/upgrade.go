package matrix

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"blockstore.dev/blockstore/perf"
)

// W10's upgrade of a package is dpkg's own: it writes each file as NAME.dpkg-new, waits
// for the disk and renames, also where nothing changed. The package is made here, so that
// it is the same everywhere and nothing comes from a network.

// packaged is a layer in which a package was installed.
const packaged = "packaged"

// release are the package's files in a version: one small file in ten of Files, and four
// libraries. Every third has other bytes in each version.
func (s Scale) release(version int) []debFile {
	random := rand.New(rand.NewPCG(3, 4))
	var files []debFile
	add := func(name string, size int64) {
		f := debFile{name: "usr/lib/release/" + name, size: size, seed: uint64(len(files))}
		if f.changes() {
			f.seed += uint64(version) << 32
		}
		files = append(files, f)
	}
	for i := range 4 {
		add(fmt.Sprintf("lib-%d.so", i), s.FileSize>>(6+i))
	}
	for i := range max(s.Files/10, 8) {
		// Each power of two from 512 bytes to 64 KiB as often as another.
		add(fmt.Sprintf("dir-%d/file-%d", i/filesInDir, i), int64(512*math.Pow(2, 7*random.Float64())))
	}
	return files
}

// changes says whether a file is another in each version.
func (f debFile) changes() bool { return uint32(f.seed)%3 == 1 }

// rowUpgrade is a row of W10.
func rowUpgrade(files []debFile) measure {
	return row(fmt.Sprintf("space after the upgrade of a package of %d files, %s", len(files), perf.Bytes.Text(float64(sizeOf(files, nil)))))
}

func rowUpgradeLeft() measure {
	return row("held by the disk after the upgraded container was removed")
}

// sizeOf are the bytes of the files that which, if set, is true of.
func sizeOf(files []debFile, which func(debFile) bool) (sum int64) {
	for _, f := range files {
		if which == nil || which(f) {
			sum += f.size
		}
	}
	return sum
}

// packagedLayer makes the layer and the package that upgrades it, or says in the report
// why it does not.
func (s *stand) packagedLayer(ctx context.Context) error {
	if _, err := exec.LookPath("dpkg"); err != nil {
		s.report.LeaveOut(perf.NotRun{Workload: s.workload.name, Reason: "the upgrade of a package: the program dpkg is not installed"})
		return nil
	}
	older := filepath.Join(s.site.Dir, "older.deb")
	if err := writeDeb(older, "1", s.scale.release(1)); err != nil {
		return err
	}
	s.newer = filepath.Join(s.site.Dir, "newer.deb")
	if err := writeDeb(s.newer, "2", s.scale.release(2)); err != nil {
		return err
	}
	err := s.Layer(ctx, packaged, "", func(root string) error {
		if err := dpkgState(root); err != nil {
			return err
		}
		return dpkg(ctx, root, older)
	})
	return errors.Join(err, os.Remove(older))
}

// dpkgState is what dpkg wants to find below a root in which nothing is installed.
func dpkgState(root string) error {
	state := filepath.Join(root, "var/lib/dpkg")
	for _, dir := range []string{"info", "updates", "triggers"} {
		if err := os.MkdirAll(filepath.Join(state, dir), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(state, "status"), nil, 0o644)
}

// dpkg installs a package below a root. What the machine's own dpkg.cfg may have said of
// not waiting for the disk does not count here.
func dpkg(ctx context.Context, root, deb string) error {
	_, err := perf.Output(ctx, "dpkg", "--root="+root, "--refuse-unsafe-io", "--force-bad-path", "--log=/dev/null", "--install", deb)
	return err
}

// upgrade has a container of the layer come, be upgraded, and go. held is what the disk's
// files hold before that: what they keep of it is counted as its own.
func (s *stand) upgrade(ctx context.Context, held int64) error {
	if s.newer == "" {
		return nil
	}
	before, err := s.withoutSpares(ctx)
	if err != nil {
		return err
	}
	err = s.inContainer(ctx, packaged, func(dir string) error {
		if err := errors.Join(dpkg(ctx, dir, s.newer), perf.Flush(s.site.Dir)); err != nil {
			return err
		}
		now, err := s.site.Space(ctx)
		if err != nil {
			return err
		}
		files, took := s.scale.release(2), float64(now.Since(before).Sum())
		m := rowUpgrade(files)
		s.record(m, perf.Bytes, took)
		// The last stands first.
		s.part(m, "of what dpkg wrote", perf.Times, took/float64(sizeOf(files, nil)))
		s.part(m, "of what was changed", perf.Times, took/float64(sizeOf(files, debFile.changes)))
		return nil
	})
	if err != nil {
		return err
	}
	after, err := s.left(ctx, rowUpgradeLeft(), held)
	s.held += after - held
	return err
}
