package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Make returns the directory with what a kind of machine is booted from. The script make beside the kind's run makes it when
// it is not in the cache, which may take minutes.
func Make(ctx context.Context, kind string) (string, error) {
	script := os.Getenv("BSTEST_MAKE") // run says where it is
	if script == "" {
		return "", errors.New("BSTEST_MAKE is not set: start the machine by vagrant/" + kind + "/run")
	}
	cmd := exec.CommandContext(ctx, script)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("making what the machine is booted from: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
