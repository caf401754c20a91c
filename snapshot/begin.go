package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"blockstore.dev/blockstore/snapshot/failpoint"
)

// begun are the creations that BeginCreate has answered and that are not done.
type begun struct {
	mu     sync.Mutex
	names  map[string]chan struct{} // of container and parent; closed when the creation is done
	failed map[string]error         // of those that nobody has asked for since
	work   sync.WaitGroup
}

// maxFailed bounds what is remembered of failed creations.
const maxFailed = 256

// beginning is the record of a creation under way, a file below dirBegun. It is written
// and not flushed: it is for the death of the process, and void after another boot.
type beginning struct {
	Boot    string        `json:"boot"`
	Name    string        `json:"name"`
	Request CreateRequest `json:"request"`
}

// BeginCreate is Create for callers that have something else to do before they use the
// container. It refuses what Create refuses at once; then it returns, and the snapshot
// and the commit are made meanwhile. Whoever uses the container, or its parent, or lists
// what there is, waits for that. Whoever finds that it failed is told so by the first
// use, which is ErrNotFound and the cause.
//
// A process that is killed meanwhile loses nothing: the next open makes the container.
// A power cut before the first use may lose it.
func (s *Store) BeginCreate(ctx context.Context, name string, r CreateRequest) (err error) {
	if err := checkName(name); err != nil {
		return err
	}
	unlockParent := func() {}
	if r.Parent != "" && r.Parent != name { // its contents must not change until the snapshot is made
		unlockParent = s.names.write(r.Parent)
	}
	unlockName := s.names.write(name)
	unlock := func() { unlockName(); unlockParent() }
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	if _, err := s.creation(name, r); err != nil {
		return err
	}
	file, err := s.noteBeginning(name, r)
	if err != nil {
		return fmt.Errorf("creating container %q: %w", name, noSpace(err))
	}
	failpoint.Hit("begin.noted")
	s.begun.add(name, r.Parent)
	s.begun.work.Go(func() {
		defer unlock()
		_, err := s.create(context.WithoutCancel(ctx), name, r)
		failpoint.Hit("begin.done")
		s.begun.done(name, r.Parent, errors.Join(err, os.Remove(file)))
	})
	return nil
}

func (b *begun) add(name, parent string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.names == nil {
		b.names, b.failed = map[string]chan struct{}{}, map[string]error{}
	}
	done := make(chan struct{})
	b.names[name], b.names[parent] = done, done
	delete(b.failed, name)
}

func (b *begun) done(name, parent string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && len(b.failed) < maxFailed {
		b.failed[name] = err
	}
	close(b.names[name])
	delete(b.names, name)
	delete(b.names, parent)
}

// wait waits for a creation of that name, or on it, if one was begun.
func (b *begun) wait(name string) {
	b.mu.Lock()
	done := b.names[name]
	b.mu.Unlock()
	if done != nil {
		<-done
	}
}

// waitAll waits for those that were begun until now.
func (b *begun) waitAll() {
	b.mu.Lock()
	names := make([]string, 0, len(b.names))
	for name := range b.names {
		names = append(names, name)
	}
	b.mu.Unlock()
	for _, name := range names {
		b.wait(name)
	}
}

// why is the error of a creation that failed, once.
func (b *begun) why(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.failed[name]
	delete(b.failed, name)
	return err
}

// noteBeginning writes the record of a creation and returns its file.
func (s *Store) noteBeginning(name string, r CreateRequest) (file string, err error) {
	boot, err := bootID()
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(beginning{Boot: boot, Name: name, Request: r})
	if err != nil {
		return "", err
	}
	dir := filepath.Join(s.root, dirBegun)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	f, err := os.CreateTemp(dir, "*.json")
	if err != nil {
		return "", err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), err
}

// bootID is the kernel's name for the time since it was started; proc(5), random/boot_id.
var bootID = sync.OnceValues(func() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
})

// finishBegun makes the containers whose creation a process had begun that was killed.
// Where that cannot be done now the container is lost, as one is whose creation failed.
func (s *Store) finishBegun(ctx context.Context) error {
	dir := filepath.Join(s.root, dirBegun)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var b beginning
		// One that cannot be read was being written, and its caller not answered.
		if json.Unmarshal(raw, &b) == nil && b.Boot == boot {
			_, _ = s.Create(ctx, b.Name, b.Request)
			failpoint.Hit("open.begun")
		}
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}
