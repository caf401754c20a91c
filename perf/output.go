package perf

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Output runs a program and returns what it printed.
func Output(ctx context.Context, name string, args ...string) (string, error) {
	return OutputOf(exec.CommandContext(ctx, name, args...))
}

// OutputOf runs a command and returns what it printed, unless its output goes
// elsewhere. Stderr is kept out of it, and is in the error.
func OutputOf(cmd *exec.Cmd) (string, error) {
	var out, complaints bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &complaints
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(complaints.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// CommandLine is how this program was started, without the directories of this
// machine.
func CommandLine() []string {
	var line []string
	for _, word := range os.Args {
		name, value, flag := strings.Cut(word, "=")
		switch {
		case strings.HasPrefix(word, "/"):
			word = word[strings.LastIndexByte(word, '/')+1:]
		case flag && strings.HasPrefix(value, "/"):
			word = name + "=" + value[strings.LastIndexByte(value, '/')+1:]
		}
		line = append(line, word)
	}
	return line
}
