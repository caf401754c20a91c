package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/internal/size"
	"blockstore.dev/blockstore/snapshot/mount"
	"blockstore.dev/blockstore/thinpool"
)

// TestMain lets the scripts run this binary as the command "blockstore", just as
// it is installed; with a door for tests beside its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"blockstore": func() {
		a := newApp(os.Stdin, os.Stdout, os.Stderr)
		a.doors = append(a.doors, testDoor())
		os.Exit(interruptible(a))
	}})
}

// TestScripts runs testdata/script/*.txtar, each on a store of its own. What the
// scripts can do beyond testscript's own commands:
//
//	bs [=CODE] ARG...    blockstore on the script's store; exit code 0, or CODE
//	setup                makes that store on the driver under test
//	teardown             check, destroy, and nothing of it is left in the kernel
//	mktar OUT DIR        the tar of a directory, all of it root's
//	mkimage OUT REF TAR… a docker archive of those layers
//	patch FILE AT TEXT   overwrites bytes in the middle of a file
//	wearout FILE         has a thin pool's metadata say that it has taken all snapshots of its life
//	capture VAR          keeps the last stdout in a variable
//	serve, stop, crash   a server on that store: starts it, stops it, kills it
//	watchpool [ARG...]   pool watch on that store, with stop and crash as above
//	awaitevent KIND      waits until it has told of such an event
//	scrape SOCKET OUT    what the server tells Prometheus, by its rules
//
// They run on each driver that this kernel has; BSTEST_DRIVER narrows them to one.
func TestScripts(t *testing.T) {
	for _, k := range kinds() {
		t.Run(k.Name(), func(t *testing.T) {
			if only := os.Getenv("BSTEST_DRIVER"); only != "" && only != k.Name() {
				t.Skipf("BSTEST_DRIVER asks for %s only", only)
			}
			if err := k.Probe(context.Background()); err != nil {
				t.Skip(err)
			}
			testscript.Run(t, scripts(k.Name(), t.TempDir()))
		})
	}
}

func scripts(driver, dir string) testscript.Params {
	return testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         dir, // which goes whatever happens; testscript's own stays under -run
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("DRIVER", driver)
			e.Setenv("STORE", filepath.Join(e.WorkDir, "store"))
			slot := &serverSlot{}
			e.Values["server"] = slot
			e.Defer(func() { sweep(e.WorkDir) })
			e.Defer(func() {
				if slot.serverProcess != nil {
					slot.end(unix.SIGKILL)
				}
			})
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if d, ok := strings.CutPrefix(cond, "driver:"); ok {
				return d == driver, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"bs": cmdBS, "setup": cmdSetup, "teardown": cmdTeardown, "capture": cmdCapture,
			"mktar": cmdMktar, "mkimage": cmdMkimage, "patch": cmdPatch, "wearout": cmdWearout,
			"serve": cmdServe, "stop": cmdStop, "crash": cmdCrash, "scrape": cmdScrape,
			"watchpool": cmdWatchpool, "awaitevent": cmdAwaitevent,
		},
	}
}

// sweep takes away what a failed script left, so that the machine stays clean.
func sweep(work string) {
	under, _ := mount.Below(work)
	for i := len(under) - 1; i >= 0; i-- {
		_ = mount.Unmount(under[i].Target)
	}
	var discard bytes.Buffer
	for _, e := range glob(filepath.Join(work, "*", "catalog.db")) {
		run(context.Background(), []string{"--root", filepath.Dir(e), "destroy", "--yes"}, &discard, &discard, &discard)
	}
}

func glob(pattern string) []string {
	list, _ := filepath.Glob(pattern)
	return list
}

func cmdBS(ts *testscript.TestScript, neg bool, args []string) {
	want := 0
	if len(args) > 0 && strings.HasPrefix(args[0], "=") {
		n, err := strconv.Atoi(args[0][1:])
		ts.Check(err)
		want, args = n, args[1:]
	}
	if neg {
		ts.Fatalf("say which exit code is expected: bs =N")
	}
	err := ts.Exec("blockstore", append([]string{"--root", ts.Getenv("STORE")}, args...)...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, not %d: blockstore %s", got, want, strings.Join(args, " "))
	}
}

func cmdSetup(ts *testscript.TestScript, _ bool, args []string) {
	cmdBS(ts, false, append([]string{"init", "--driver", ts.Getenv("DRIVER"), "--loopback", "1G", "--base-size", "256M"}, args...))
	if ts.Getenv("SERVED") != "" {
		cmdServe(ts, false, nil)
	}
}

// cmdTeardown is how every script ends.
func cmdTeardown(ts *testscript.TestScript, _ bool, _ []string) {
	cmdBS(ts, false, []string{"check", "--content"})
	cmdBS(ts, false, []string{"--json", "info"})
	var st struct {
		StoreID string `json:"storeID"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &st))
	if slotOf(ts).serverProcess != nil {
		cmdStop(ts, false, nil)
	}
	cmdBS(ts, false, []string{"destroy", "--yes"})
	if left := leaks(ts.Getenv("WORK"), st.StoreID); len(left) > 0 {
		ts.Fatalf("left behind: %s", strings.Join(left, ", "))
	}
}

// leaks lists what the kernel still has of a store that is destroyed.
func leaks(work, id string) []string {
	var left []string
	under, _ := mount.Below(work)
	for _, e := range under {
		left = append(left, "mount "+e.Target)
	}
	for _, f := range glob("/sys/block/loop*/loop/backing_file") {
		if b, _ := os.ReadFile(f); strings.HasPrefix(string(b), work+"/") {
			left = append(left, "loop device of "+strings.TrimSpace(string(b)))
		}
	}
	for _, f := range append(glob("/sys/block/dm-*/dm/uuid"), glob("/sys/block/dm-*/dm/name")...) {
		b, _ := os.ReadFile(f)
		s := strings.ReplaceAll(strings.ToLower(string(b)), "-", "")
		if strings.Contains(s, strings.ReplaceAll(strings.ToLower(id), "-", "")) {
			left = append(left, "device "+strings.TrimSpace(string(b)))
		}
	}
	if _, err := os.Lstat(filepath.Join(work, "store")); err == nil {
		left = append(left, "the root directory")
	}
	return left
}

// cmdMktar writes files as root's, with times that are the same each time.
func cmdMktar(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: mktar OUT DIR")
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	dir := ts.MkAbs(args[1])
	ts.Check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if err != nil || rel == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			link, _ = os.Readlink(path)
		}
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		h.Name, h.Uid, h.Gid, h.Uname, h.Gname = rel, 0, 0, "root", "root"
		h.ModTime = time.Unix(1_700_000_000, 0)
		if err := tw.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(tw, f)
		return err
	}))
	ts.Check(tw.Close())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o600))
}

func cmdMkimage(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: mkimage OUT REF TAR...")
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	add := func(name string, content []byte) {
		ts.Check(tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
		_, err := tw.Write(content)
		ts.Check(err)
	}
	var layers, diffIDs []string
	for i, t := range args[2:] {
		raw, err := os.ReadFile(ts.MkAbs(t))
		ts.Check(err)
		diffIDs = append(diffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(raw)))
		layers = append(layers, fmt.Sprintf("%d/layer.tar", i))
		add(layers[i], raw)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z",
		"config":  map[string]any{"Cmd": []string{"/bin/sh"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": diffIDs},
		"history": []map[string]any{{"created": "2024-01-02T03:04:05Z", "created_by": "made by a test"}},
	})
	ts.Check(err)
	name := fmt.Sprintf("%x.json", sha256.Sum256(config))
	add(name, config)
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{args[1]}, "Layers": layers}})
	ts.Check(err)
	add("manifest.json", manifest)
	ts.Check(tw.Close())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o600))
}

func cmdPatch(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: patch FILE AT TEXT")
	}
	at, err := size.Parse(args[1])
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteAt([]byte(args[2]), at)
	ts.Check(errors.Join(err, f.Close()))
}

// cmdWearout writes the superblock's time (Linux, dm-thin-metadata.c).
func cmdWearout(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: wearout FILE")
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	b := make([]byte, 4096)
	_, err = f.ReadAt(b, 0)
	ts.Check(err)
	binary.LittleEndian.PutUint32(b[44:], thinpool.SnapshotLimit)
	binary.LittleEndian.PutUint32(b, ^crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli))^160774)
	_, err = f.WriteAt(b, 0)
	ts.Check(errors.Join(err, f.Sync()))
}

func cmdCapture(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: capture VAR")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}
