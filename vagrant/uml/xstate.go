package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed xstate/xstate.c
var xstateSource []byte

// xstateLibrary builds what has to be preloaded into the kernel on this processor,
// into work; "" where nothing has to be. Its source says what it is for.
func xstateLibrary(ctx context.Context, work string) (string, error) {
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !bytes.Contains(cpu, []byte(" amx_tile")) {
		return "", err
	}
	library := filepath.Join(work, "xstate.so")
	cc := exec.CommandContext(ctx, "cc", "-O2", "-shared", "-fPIC", "-x", "c", "-o", library, "-", "-ldl")
	cc.Stdin = bytes.NewReader(xstateSource)
	if out, err := cc.CombinedOutput(); err != nil {
		return "", fmt.Errorf("this processor has AMX, for which User Mode Linux needs help that a C compiler builds (apt-get install gcc libc6-dev): %w: %s", err, out)
	}
	return library, nil
}
