package image

import (
	"fmt"
	"runtime"
	"strings"

	"blockstore.dev/blockstore/snapshot"
)

// platform is what an image runs on, in the words of Go (GOOS, GOARCH) that the
// OCI image index uses.
type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

func (p platform) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// hostPlatform is this machine's.
func hostPlatform() platform { return platform{OS: "linux", Architecture: runtime.GOARCH} }

// parsePlatform reads "os/architecture[/variant]"; "" is this machine's.
func parsePlatform(s string) (platform, error) {
	if s == "" {
		return hostPlatform(), nil
	}
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return platform{}, fmt.Errorf("%w platform %q: write os/architecture or os/architecture/variant, such as linux/arm64",
			snapshot.ErrInvalid, s)
	}
	p := platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// normal fills in the variant that an architecture has when none is told.
func (p platform) normal() platform {
	if p.Variant == "" {
		p.Variant = map[string]string{"arm64": "v8", "arm": "v7", "amd64": "v1"}[p.Architecture]
	}
	return p
}

// fits says how well an image for have runs where p is wanted: 0 not at all, more
// is better. A lower variant of arm or amd64 runs on a higher one.
func (p platform) fits(have platform) int {
	p, have = p.normal(), have.normal()
	switch {
	case p.OS != have.OS || p.Architecture != have.Architecture:
		return 0
	case p.Variant == have.Variant:
		return 100
	case len(have.Variant) == 2 && len(p.Variant) == 2 && have.Variant < p.Variant:
		return 1 + int(have.Variant[1]-'0')
	}
	return 0
}
