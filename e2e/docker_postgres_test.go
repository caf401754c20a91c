package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// begin is what the container runs: PostgreSQL as its first process, with its data
// in the container's own layer.
const begin = `bin=$(echo /usr/lib/postgresql/*/bin) data=/var/lib/postgresql/test
as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
[ -e $data/PG_VERSION ] || as $bin/initdb -k -A trust -D $data || exit
exec setpriv --reuid postgres --regid postgres --clear-groups \
	$bin/postgres -D $data -c listen_addresses= -c unix_socket_directories=/tmp`

// postgres is the database in a container.
type postgres struct {
	t *testing.T
	d *dockerd
}

// pid is its first process, on the machine; 0 while it does not run. It is asked of
// the kernel's own lists, since dockerd may be away.
func (p *postgres) pid() int {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && strings.Contains(cmdline(pid), "-D /var/lib/postgresql/test -c listen_addresses=") && p.ours(pid) {
			return pid
		}
	}
	return 0
}

// ours: the process's parent is a shim of our dockerd's.
func (p *postgres) ours(pid int) bool {
	return strings.Contains(cmdline(parentOf(pid)), p.d.dir+"/")
}

// inside is a program that runs in the container and not through dockerd.
func (p *postgres) inside(pid int, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{
		"--target", strconv.Itoa(pid), "--mount", "--ipc", "--root",
		"--", "env", "-C", "/tmp", "setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups",
	}, args...)...)
}

// ready waits until the database answers.
func (p *postgres) ready() {
	p.t.Helper()
	last := "it does not run"
	answers := func() bool {
		pid := p.pid()
		if pid == 0 {
			return false
		}
		out, err := p.inside(pid, "psql", "-h", "/tmp", "-c", "SELECT 1", "postgres").CombinedOutput()
		last = string(out)
		return err == nil
	}
	if !eventually(answers) {
		p.t.Fatalf("PostgreSQL does not answer: %s\n%s", last, p.d.try("logs", "--tail", "20", "pg").stderr)
	}
}

// sql runs statements and returns what they print.
func (p *postgres) sql(text string) string {
	p.t.Helper()
	out, err := p.inside(p.pid(), "psql", "-h", "/tmp", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", text, "postgres").CombinedOutput()
	require.NoError(p.t, err, "%s", out)
	return strings.TrimSpace(string(out))
}

// writer commits numbers, each in a transaction of its own, and keeps those that the
// database has acknowledged.
type writer struct {
	p    *postgres
	stop chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	acked []int
}

func (p *postgres) write() *writer {
	w := &writer{p: p, stop: make(chan struct{})}
	w.wg.Go(w.run)
	p.t.Cleanup(w.end)
	return w
}

func (w *writer) run() {
	again := time.NewTicker(2 * tick)
	defer again.Stop()
	for n := 1; ; {
		n = w.session(n)
		select {
		case <-w.stop:
			return
		case <-again.C: // the database was restarted
		}
	}
}

// session writes from n on until the connection ends; it returns the next number.
// One of which no answer came is not used again: it may be there or not.
func (w *writer) session(n int) int {
	pid := w.p.pid()
	if pid == 0 {
		return n
	}
	psql := w.p.inside(pid, "psql", "-h", "/tmp", "-qAtX", "-v", "ON_ERROR_STOP=1", "postgres")
	in, err := psql.StdinPipe()
	if err != nil {
		return n
	}
	out, err := psql.StdoutPipe()
	if err != nil || psql.Start() != nil {
		return n
	}
	defer func() {
		_ = in.Close()
		_ = psql.Process.Kill()
		_ = psql.Wait()
	}()
	for answers := bufio.NewScanner(out); ; n++ {
		select {
		case <-w.stop:
			return n
		default:
		}
		if _, err := fmt.Fprintf(in, "INSERT INTO acked VALUES (%d) RETURNING n;\n", n); err != nil {
			return n + 1
		}
		if !answers.Scan() || answers.Text() != strconv.Itoa(n) {
			return n + 1
		}
		w.mu.Lock()
		w.acked = append(w.acked, n)
		w.mu.Unlock()
	}
}

func (w *writer) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.wg.Wait()
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// goesOn waits for further acknowledgements: the database works.
func (w *writer) goesOn(when string) {
	w.p.t.Helper()
	before := w.count()
	require.Eventually(w.p.t, func() bool { return w.count() >= before+20 }, patience, tick, "no transactions %s", when)
}

// nothingLost: the database has every acknowledged number.
func (w *writer) nothingLost(when string) {
	w.p.t.Helper()
	w.mu.Lock()
	acked := append([]int(nil), w.acked...)
	w.mu.Unlock()
	have := map[string]bool{}
	for _, n := range strings.Fields(w.p.sql("SELECT n FROM acked")) {
		have[n] = true
	}
	for _, n := range acked {
		require.True(w.p.t, have[strconv.Itoa(n)], "transaction %d was acknowledged and is lost, %s", n, when)
	}
	w.p.t.Logf("%s: %d transactions acknowledged, none lost", when, len(acked))
}

// TestDockerPostgres: a database in a container's layer goes through everything that
// its storage and its daemon can be put through, and loses nothing that it has
// acknowledged.
func TestDockerPostgres(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes: a database under load is restarted and killed")
	}
	v := newStore(t).serve()
	d := v.dockerd("--live-restore")
	d.docker("load", "-q", "-i", filepath.Join(realImage(t), "postgres.docker.tar"))
	p := &postgres{t: t, d: d}
	// SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
	d.docker("run", "-d", "--name", "pg", "--net", "none", "--stop-signal", "SIGINT", "--stop-timeout", "60", "real/postgres:latest", "sh", "-c", begin)
	p.ready()
	p.sql("CREATE TABLE acked (n int PRIMARY KEY)")
	out, err := p.inside(p.pid(), "pgbench", "-h", "/tmp", "-i", "-q", "-s", "2", "postgres").CombinedOutput()
	require.NoError(t, err, "%s", out)
	w := p.write()
	p.load()
	w.goesOn("at first")

	d.docker("restart", "pg")
	p.ready()
	w.nothingLost("after docker restart")
	p.load()
	w.goesOn("after docker restart")
	v.mustAgree(d)

	d.kill()
	w.goesOn("without dockerd")
	d.start()
	w.goesOn("with dockerd again")
	require.Equal(t, "true", d.docker("inspect", "-f", "{{.State.Running}}", "pg"))
	w.nothingLost("after kill -9 of dockerd")
	v.mustAgree(d)

	v.kill()
	w.goesOn("without the server")
	v.start()
	w.goesOn("with the server again")
	d.docker("exec", "pg", "true")
	require.NotEmpty(t, d.docker("diff", "pg"))
	w.nothingLost("after kill -9 of the server")
	v.mustAgree(d)

	v.kill()
	d.kill()
	w.goesOn("without both")
	v.start()
	d.start()
	w.goesOn("with both again")
	w.nothingLost("after kill -9 of both")
	v.mustAgree(d)

	// And the database itself, with both, at once: it has to recover from its log.
	first := p.pid()
	v.kill()
	d.kill()
	require.NoError(t, unix.Kill(first, unix.SIGKILL))
	require.Eventually(t, func() bool { return !alive(first) }, patience, tick)
	v.start()
	d.start()
	d.docker("start", "pg")
	p.ready()
	w.nothingLost("after kill -9 of everything")
	w.goesOn("after kill -9 of everything")
	v.mustAgree(d)

	w.end()
	p.sql("CREATE EXTENSION amcheck")
	p.sql("SELECT bt_index_check(indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = relam WHERE amname = 'btree' AND relpersistence <> 't'")
	require.Equal(t, "0", p.sql("SELECT sum(abalance) - (SELECT sum(tbalance) FROM pgbench_tellers) FROM pgbench_accounts"), "pgbench's books balance")
	d.docker("stop", "pg")
	d.docker("commit", "pg", "test/pg:1")
	d.docker("run", "--rm", "--net", "none", "test/pg:1", "sh", "-c",
		"setpriv --reuid postgres --regid postgres --clear-groups $(echo /usr/lib/postgresql/*/bin)/pg_checksums -c -D /var/lib/postgresql/test")
	d.docker("rm", "-f", "pg")
	d.docker("rmi", "test/pg:1", "real/postgres:latest")
	v.mustBeEmpty()
}

// load has pgbench write beside the numbers, until the database ends.
func (p *postgres) load() {
	p.t.Helper()
	bench := p.inside(p.pid(), "pgbench", "-h", "/tmp", "-c", "2", "-T", "3600", "-n", "postgres")
	out, err := bench.StderrPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, bench.Start())
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, out)
		_ = bench.Wait()
		close(done)
	}()
	p.t.Cleanup(func() {
		_ = bench.Process.Kill()
		<-done
	})
}
