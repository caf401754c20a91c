package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed preload/*.c
var preloadSources embed.FS

// preloadLibrary builds what has to be preloaded into the kernel's process, into work. The
// sources say what they are for.
func preloadLibrary(ctx context.Context, work string) (string, error) {
	sources := []string{"timer.c", "flush.c"}
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	if bytes.Contains(cpu, []byte(" amx_tile")) {
		sources = append(sources, "xstate.c")
	}
	library := filepath.Join(work, "preload.so")
	args := []string{"-O2", "-shared", "-fPIC", "-o", library}
	for _, name := range sources {
		text, err := preloadSources.ReadFile("preload/" + name)
		if err != nil {
			return "", err
		}
		file := filepath.Join(work, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return "", err
		}
		args = append(args, file)
	}
	cc := exec.CommandContext(ctx, "cc", append(args, "-ldl")...)
	if out, err := cc.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building what User Mode Linux needs beside it (a C compiler: apt-get install gcc libc6-dev): %w: %s", err, out)
	}
	return library, nil
}
