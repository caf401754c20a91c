package matrix

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"blockstore.dev/blockstore/internal/systrace"
	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/peers"
)

// stand is a peer's place in a workload.
type stand struct {
	peers.Store
	peer     peers.Peer
	site     *peers.Site
	workload workload
	scale    Scale
	image    string
	report   *perf.Report
	quiet    bool          // nothing is recorded
	marks    *marks        // in a trace; nil without one
	named    int           // names given out
	rounds   int           // recorded so far
	spent    time.Duration // by those
	crowds   []crowdOf     // of W5 and W13
	tars     []string      // of W4
	held     int64         // of W10: what the disk's files held in the beginning
	newer    string        // of W10: the package that upgrades a layer's, "" without dpkg
}

// openStand makes a peer's stand in a new directory.
func (b *bench) openStand(ctx context.Context, w workload, p peers.Peer, u *perf.Undo) (*stand, error) {
	s := &stand{peer: p, workload: w, scale: b.o.Scale, image: b.o.Image, report: b.report, quiet: true, marks: b.marks}
	b.sites++
	what := fmt.Sprintf("%s-%d", w.name, b.sites)
	s.site = &peers.Site{
		Dir: filepath.Join(b.dir, what), DiskSize: diskFor(b.o.volume()), VolumeSize: b.o.volume(),
		KernelName: fmt.Sprintf("bstest-matrix-%d-%s", os.Getpid(), what), Undo: u,
	}
	if err := os.Mkdir(s.site.Dir, 0o755); err != nil {
		return nil, err
	}
	u.Add(s.site.Dir, func() error { return perf.RemoveDir(s.site.Dir) })
	var err error
	if s.Store, err = p.Open(ctx, s.site); err != nil {
		return nil, err
	}
	if err := w.prepare(ctx, s); err != nil {
		return nil, fmt.Errorf("preparing %s for %s: %w", p.Name, w.name, err)
	}
	return s, perf.Flush(s.site.Dir)
}

// name is one that this stand never had.
func (s *stand) name(what string) string {
	s.named++
	return fmt.Sprintf("%s-%d", what, s.named)
}

// measure is what a row holds.
type measure struct {
	name string
	// series, scale and of what: see perf.Row.
	series    string
	scale     float64
	scaleName string
	// disks: what the disks did is recorded too.
	disks bool
}

// row is one measure alone, scaled one of several that differ in scale.
func row(name string) measure { return measure{name: name} }

func scaled(series string, scale float64, what string) measure {
	return measure{name: fmt.Sprintf("%s, %g %s", series, scale, what), series: series, scale: scale, scaleName: what}
}

func (m measure) withDisks() measure {
	m.disks = true
	return m
}

// record enters a sample.
func (s *stand) record(m measure, unit perf.Unit, value float64) {
	if s.quiet {
		return
	}
	r := s.report.Add(s.workload.name+" "+m.name, unit, s.peer.Name, value)
	r.Workload, r.Scale, r.ScaleName = s.workload.name, m.scale, m.scaleName
	if m.series != "" {
		r.Series = s.workload.name + " " + m.series
	}
}

// part enters a sample of a part of a measure.
func (s *stand) part(of measure, name string, unit perf.Unit, value float64) {
	if !s.quiet {
		s.report.AddPart(s.workload.name+" "+of.name, name, unit, s.peer.Name, value)
	}
}

// timed does something and records what it took.
func (s *stand) timed(m measure, do func() error) error {
	_, err := s.took(m, do)
	return err
}

// took is timed, and says it too.
func (s *stand) took(m measure, do func() error) (time.Duration, error) {
	took, did, err := s.watched(m, do)
	if err != nil {
		return took, err
	}
	s.record(m, perf.Seconds, took.Seconds())
	if m.disks {
		s.onDisks(m, did)
	}
	return took, nil
}

// countedOnly does something of which no time is recorded, beside a measure that has a sample of something else already.
func (s *stand) countedOnly(m measure, do func() error) error {
	_, did, err := s.watched(m.withDisks(), do)
	if err == nil {
		s.onDisks(m, did)
	}
	return err
}

// watched does something between the marks of a trace, and says what it took and, where
// that is asked for, what the disks did.
func (s *stand) watched(m measure, do func() error) (took time.Duration, did perf.DiskCounts, err error) {
	var before perf.DiskCounts
	if m.disks {
		if before, err = perf.CountDisks(s.site.Devices); err != nil {
			return 0, did, err
		}
	}
	s.marks.begin(s, m)
	begin := time.Now()
	err = do()
	took = time.Since(begin)
	s.marks.end()
	if err != nil {
		return took, did, fmt.Errorf("%s: %w", m.name, err)
	}
	if m.disks {
		did, err = perf.CountDisks(s.site.Devices)
	}
	return took, did.Since(before), err
}

// onDisks records what the disks did.
func (s *stand) onDisks(m measure, did perf.DiskCounts) {
	// The last stands first.
	s.part(m, "flushes of the disk", perf.Count, float64(did.Flushes))
	s.part(m, "writes to the disk", perf.Count, float64(did.Writes))
	s.part(m, "read from the disk", perf.Bytes, float64(did.ReadBytes))
	s.part(m, "written to the disk", perf.Bytes, float64(did.WrittenBytes))
}

// inContainer makes a container of a layer, shows it to do, and removes it.
func (s *stand) inContainer(ctx context.Context, layer string, do func(dir string) error) error {
	name := s.name("box")
	if err := s.Create(ctx, name, layer); err != nil {
		return err
	}
	dir, err := s.Mount(ctx, name)
	if err != nil {
		return err
	}
	// What is to be measured begins with nothing else on its way to the disk.
	err = perf.Flush(s.site.Dir)
	if err == nil {
		err = do(dir)
	}
	return errors.Join(err, s.Unmount(ctx, name), s.Remove(ctx, name))
}

// marks are the parts of a trace, by the letters of package systrace.
type marks struct{ rows []string }

func (k *marks) begin(s *stand, m measure) {
	if k != nil && !s.quiet {
		k.rows = append(k.rows, s.workload.name+" "+m.name)
		systrace.Mark(letters(len(k.rows) - 1))
	}
}

func (k *marks) end() {
	if k != nil {
		systrace.End()
	}
}

// letters writes a number with those that a mark can have.
func letters(n int) string {
	return string([]byte{'m', 'a' + byte(n/26%26), 'a' + byte(n%26)})
}

// fillRandom writes a file of random bytes, so that no file system can make less of
// it. Each seed has its own.
func fillRandom(file string, size int64, seed byte) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{seed})
	block := make([]byte, min(size, mebibyte))
	for left := size; left > 0 && err == nil; left -= int64(len(block)) {
		block = block[:min(left, int64(len(block)))]
		_, _ = random.Read(block)
		_, err = f.Write(block)
	}
	return errors.Join(err, f.Close())
}
