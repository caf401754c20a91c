package lint

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Limits and allowances. Each exception has its reason beside it.
const maxLines = 600 // of a file that is not a test

// mayFork are the files, or directories with a slash behind them, that may
// start processes. Rule 5 of the design: none in the hot path.
func mayFork() map[string]string {
	return map[string]string{
		"btrfsvol/format.go":          "mkfs.btrfs, once per file system",
		"zfsds/command.go":            "zfs and zpool: pools, and where the module answers otherwise than by our ABI",
		"snapshot/gauge/gauge.go":     "mkfs, when a server begins and when its pool has grown",
		"snapshot/thin/filesystem.go": "mkfs, once per store, for the golden base",
		"thinpool/lvm/tool.go":        "LVM's tools, at set-up, growth and after a boot",
		"thinpool/repair_tools.go":    "thin_check and thin_repair, on a pool that is down",
		"snapshot/drivertest/":        "a child process is killed, or counted by strace",
		"vagrant/":                    "test machines are processes",
		"perf/":                       "the peers that it measures are programs",
	}
}

// publicHosts may stand in URLs: where specifications, sources and documents live.
func publicHosts() []string {
	return []string{
		"kernel.org", "github.com", "golang.org", "go.dev", "opencontainers.org", "debian.org", "apache.org",
		"docker.com", "moby.github.io", "containerd.io", "readthedocs.io", "man7.org", "openzfs.github.io", "openzfs.org", "semver.org",
		"keepachangelog.com", "adr.github.io", "sourceware.org", "gnu.org", "rfc-editor.org", "ietf.org", "w3.org", "json.org", "zlib.net",
		"pubs.opengroup.org", "freedesktop.org", "freebsd.org", "lwn.net", "vagrantup.com", "localhost",
		"example.org", "example.com", "blockstore.dev",
	}
}

// rawCalls keeps unsafe and raw system calls in package ioctl.
func rawCalls(t *tree) []string {
	var findings []string
	raw := func(name string) bool {
		return strings.HasPrefix(name, "Syscall") || strings.HasPrefix(name, "RawSyscall")
	}
	for _, f := range t.files {
		if f.dir == "ioctl" {
			continue
		}
		if node := f.imports()["unsafe"]; node != nil {
			findings = append(findings, f.position(node)+": unsafe is for package ioctl; add what is missing there")
		}
		for _, pkg := range []string{"syscall", "golang.org/x/sys/unix"} {
			for _, use := range f.uses(pkg, func(n string) bool { return raw(n) && n != "SyscallN" }) {
				findings = append(findings, fmt.Sprintf("%s: %s is for package ioctl; use golang.org/x/sys/unix's typed function or add one to ioctl", f.position(use), use.Sel.Name))
			}
		}
	}
	return findings
}

// noCgo keeps the binary static.
func noCgo(t *tree) []string {
	var findings []string
	for _, f := range t.files {
		if node := f.imports()["C"]; node != nil {
			findings = append(findings, f.position(node)+": cgo; the binary is static. A C probe for a test belongs into testdata")
		}
	}
	return findings
}

// forks finds processes started where none should be.
func forks(t *tree) []string {
	var findings []string
	for _, f := range t.files {
		if f.test || allowed(mayFork(), f.path) {
			continue
		}
		starts := f.uses("os/exec", func(n string) bool { return strings.HasPrefix(n, "Command") })
		starts = append(starts, f.uses("os", func(n string) bool { return n == "StartProcess" })...)
		starts = append(starts, f.uses("syscall", func(n string) bool { return n == "ForkExec" || n == "Exec" })...)
		for _, use := range starts {
			findings = append(findings, fmt.Sprintf("%s: %s starts a process: use a system call; where there is none (mkfs at set-up), name the file and the reason in internal/lint's mayFork", f.position(use), use.Sel.Name))
		}
	}
	return findings
}

func allowed(list map[string]string, file string) bool {
	for entry := range list {
		if file == entry || strings.HasSuffix(entry, "/") && strings.HasPrefix(file, entry) {
			return true
		}
	}
	return false
}

// packageComments wants one package comment per package, in doc.go.
func packageComments(t *tree) []string {
	where := map[string][]string{}
	for _, f := range t.files {
		if f.test {
			continue
		}
		where[f.dir] = append(where[f.dir], []string{}...)
		if f.syntax.Doc != nil {
			where[f.dir] = append(where[f.dir], path.Base(f.path))
		}
	}
	var findings []string
	for dir, files := range where {
		if !slices.Equal(files, []string{"doc.go"}) {
			findings = append(findings, fmt.Sprintf("%s: package comments in %v; there is one, in doc.go: what the package is, its words, its invariants, what it never does", dir, files))
		}
	}
	return findings
}

// silentSkips wants every skip to name the missing feature.
func silentSkips(t *tree) []string {
	return callsInTests(t, func(f goFile, call *ast.CallExpr, sel *ast.SelectorExpr) string {
		if sel.Sel.Name == "SkipNow" || sel.Sel.Name == "Skip" && len(call.Args) == 0 {
			return f.position(call) + ": a skip without a reason; name the missing feature: t.Skip(\"no ...\")"
		}
		return ""
	})
}

// sleeps finds tests that wait by the clock.
func sleeps(t *tree) []string {
	return callsInTests(t, func(f goFile, call *ast.CallExpr, sel *ast.SelectorExpr) string {
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && sel.Sel.Name == "Sleep" {
			return f.position(call) + ": a test that sleeps is slow or flaky; wait for the event, or use testing/synctest"
		}
		return ""
	})
}

func callsInTests(t *tree, judge func(goFile, *ast.CallExpr, *ast.SelectorExpr) string) []string {
	var findings []string
	for _, f := range t.files {
		if !f.test {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
				if finding := judge(f, call, sel); finding != "" {
					findings = append(findings, finding)
				}
			}
			return true
		})
	}
	return findings
}

// initFunctions finds init(): state that appears by importing.
func initFunctions(t *tree) []string {
	var findings []string
	for _, f := range t.files {
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				findings = append(findings, f.position(fn)+": init(); let the caller construct it")
			}
		}
	}
	return findings
}

// vagueNames finds packages that hold no idea.
func vagueNames(t *tree) []string {
	found := map[string]bool{}
	for _, f := range t.files {
		if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "misc", "lib", "base"}, path.Base(f.dir)) {
			found[f.dir+": a package is one idea; name it after the idea"] = true
		}
	}
	var findings []string
	for finding := range found {
		findings = append(findings, finding)
	}
	return findings
}

// longFiles finds files that hold more than one idea.
func longFiles(t *tree) []string {
	var findings []string
	for _, f := range t.files {
		if lines := f.fileSet.File(f.syntax.Pos()).LineCount(); !f.test && lines > maxLines {
			findings = append(findings, fmt.Sprintf("%s: %d lines; above %d there are two ideas in it: split it", f.path, lines, maxLines))
		}
	}
	return findings
}

// modulePath wants the module's path in go.mod and in imports only, so that
// it can change. Documents may show it.
func modulePath(t *tree) []string {
	imports := regexp.MustCompile(`^(import )?\s*([\w.]+ )?"` + regexp.QuoteMeta(t.module) + `[^"]*"$`)
	var findings []string
	for p, text := range t.texts {
		if p == "go.mod" || strings.HasSuffix(p, ".md") {
			continue
		}
		for i, line := range strings.Split(string(text), "\n") {
			isImport := strings.HasSuffix(p, ".go") && imports.MatchString(line)
			if strings.Contains(line, t.module) && !isImport {
				findings = append(findings, fmt.Sprintf("%s:%d: the module's path stands in go.mod and imports only; ask `go list -m` or debug.ReadBuildInfo", p, i+1))
			}
		}
	}
	return findings
}

// machines finds what belongs to one machine: its directories, and hosts that
// are no place of public reference.
func machines(t *tree) []string {
	directory := regexp.MustCompile(`(^|[\s"'=:(])/(work|home|Users|workspace|builds)/[\w.]`)
	url := regexp.MustCompile(`\b(?:https?|git|ssh|ftp)://([A-Za-z0-9.-]+)`)
	var findings []string
	for p, text := range t.texts {
		for i, line := range strings.Split(string(text), "\n") {
			if directory.MatchString(line) {
				findings = append(findings, fmt.Sprintf("%s:%d: a directory of one machine; use a temporary or a relative one", p, i+1))
			}
			for _, match := range url.FindAllStringSubmatch(line, -1) {
				if !publicHost(match[1]) {
					findings = append(findings, fmt.Sprintf("%s:%d: host %s; take a mirror or registry from the environment, or add a place of public reference to internal/lint's publicHosts", p, i+1, match[1]))
				}
			}
		}
	}
	return findings
}

func publicHost(host string) bool {
	return !strings.Contains(host, ".") || regexp.MustCompile(`^127\.|^0\.0\.0\.0$`).MatchString(host) ||
		slices.ContainsFunc(publicHosts(), func(h string) bool { return host == h || strings.HasSuffix(host, "."+h) })
}
