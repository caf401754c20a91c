package thinpool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	// toolLimit bounds a run: 16 GiB of metadata take minutes.
	toolLimit = time.Hour
	// maxMessages bounds what of a tool's messages is kept.
	maxMessages = 2000
)

// tools are the paths of thin-provisioning-tools.
type tools struct{ check, repair string }

func findTools() (tools, error) {
	var t tools
	for name, path := range map[string]*string{"thin_check": &t.check, "thin_repair": &t.repair} {
		found, err := exec.LookPath(name)
		if err != nil {
			return tools{}, fmt.Errorf("%w: there is no program %s; install the package thin-provisioning-tools", ErrNoTools, name)
		}
		*path = found
	}
	return t, nil
}

// run runs a tool and returns its messages; its error is ErrCorrupt when it ended by itself with a code.
func (tools) run(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	said := strings.TrimSpace(out.String())
	if len(said) > maxMessages {
		said = said[:maxMessages] + " ..."
	}
	var code *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return said, fmt.Errorf("%s: %w", program, context.Cause(ctx))
	case errors.As(err, &code) && code.Exited():
		return said, fmt.Errorf("%w: %s: %s", ErrCorrupt, program, strings.ReplaceAll(said, "\n", "; "))
	case err != nil:
		return said, fmt.Errorf("%s: %w", program, err)
	}
	return said, nil
}
