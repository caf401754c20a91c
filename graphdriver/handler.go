package graphdriver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"blockstore.dev/blockstore/snapshot"
)

// callLimit is how long a call may keep dockerd waiting, which has no limit of its
// own. The streams have none: they go on as long as bytes do.
const callLimit = 2 * time.Minute

// method answers one JSON request.
type method func(context.Context, request) (any, error)

// Handler answers the protocol's calls.
func (p *Plugin) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/Plugin.Activate", p.guard(func(w http.ResponseWriter, _ *http.Request) error {
		writeAnswer(w, activated{[]string{"GraphDriver"}})
		return nil
	}))
	for name, m := range map[string]method{
		"Init": p.init, "Capabilities": p.capabilities, "Cleanup": p.cleanup,
		"Create": p.create, "CreateReadWrite": p.create, "Remove": p.remove, "Exists": p.exists,
		"Get": p.get, "Put": p.put,
		"Status": p.status, "GetMetadata": p.metadata,
		"Changes": p.changes, "DiffSize": p.diffSize,
	} {
		mux.HandleFunc("/GraphDriver."+name, p.guard(p.json(name, m)))
	}
	mux.HandleFunc("/GraphDriver.Diff", p.guard(p.diff))
	mux.HandleFunc("/GraphDriver.ApplyDiff", p.guard(p.applyDiff))
	mux.HandleFunc("/", p.guard(func(_ http.ResponseWriter, r *http.Request) error {
		return fmt.Errorf("%w %s", errUnknownMethod, r.URL.Path)
	}))
	return mux
}

// guard is around every call: who may call, how many at once, the log, and that a
// mistake of ours ends one call and not the process.
func (p *Plugin) guard(call func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p.calls.Add(1)
		defer p.calls.Done()
		began := time.Now()
		out := &answer{ResponseWriter: w}
		var err error
		defer func() {
			if broken := recover(); broken != nil {
				p.log.Error("a call broke down: this is a mistake in blockstore", "method", r.URL.Path, "panic", broken, "stack", string(debug.Stack()))
				err = fmt.Errorf("blockstore broke down in this call: %v; its log says where", broken)
			}
			p.finish(out, r, err, time.Since(began))
		}()
		if peer, ok := peerOf(r.Context()); ok && peer.uid != 0 {
			err = fmt.Errorf("%w, not user %d", errStranger, peer.uid)
			return
		}
		if r.Method != http.MethodPost {
			err = errNotPost
			return
		}
		select {
		case p.slots <- struct{}{}:
			defer func() { <-p.slots }()
		case <-r.Context().Done():
			err = r.Context().Err()
			return
		}
		err = call(out, r)
	}
}

// finish tells the caller of an error, if there is still a way to: before the first
// byte of a stream by an answer, after it only by breaking the connection off.
func (p *Plugin) finish(out *answer, r *http.Request, err error, took time.Duration) {
	if p.observe != nil {
		p.observe(methodOf(r, err), took, err)
	}
	attrs := []any{"method", r.URL.Path, "id", out.id, "took", took}
	if err == nil {
		p.log.Debug("call", attrs...)
		return
	}
	p.log.Error("call failed", append(attrs, "error", err)...)
	if out.begun {
		panic(http.ErrAbortHandler)
	}
	writeError(out, err)
}

// methodOf is the short name of a call's method, one of those that there are.
func methodOf(r *http.Request, err error) string {
	if errors.Is(err, errUnknownMethod) || r.Pattern == "/" {
		return "unknown"
	}
	return strings.TrimPrefix(strings.TrimPrefix(r.Pattern, "/"), "GraphDriver.")
}

// answer notes whether anything was sent, and for the log whom a call was about.
type answer struct {
	http.ResponseWriter
	begun bool
	id    string
}

func (a *answer) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(b)
}

// json is a call with a JSON request and answer. One that takes too long is
// answered with an error and goes on: the kernel cannot be interrupted everywhere.
func (p *Plugin) json(name string, m method) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		q, err := readRequest(r)
		if err != nil {
			return err
		}
		if a, ok := w.(*answer); ok {
			a.id = q.ID
		}
		type outcome struct {
			answer any
			err    error
		}
		result := make(chan outcome, 1)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), callLimit)
		p.calls.Go(func() {
			defer cancel()
			defer func() {
				if broken := recover(); broken != nil {
					p.log.Error("a call broke down: this is a mistake in blockstore", "method", name, "panic", broken, "stack", string(debug.Stack()))
					result <- outcome{err: fmt.Errorf("blockstore broke down in this call: %v; its log says where", broken)}
				}
			}()
			answer, err := m(ctx, q)
			result <- outcome{answer, err}
		})
		late := time.NewTimer(callLimit)
		defer late.Stop()
		select {
		case done := <-result:
			if done.err == nil {
				writeAnswer(w, done.answer)
			}
			return done.err
		case <-late.C:
			return fmt.Errorf("%s of %q is not done after %v and goes on; see whether its disk answers (blockstore info), and try again: %w",
				name, q.ID, callLimit, snapshot.ErrBusy)
		}
	}
}
