package image

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	defaultDomain = "docker.io"
	legacyDomain  = "index.docker.io"
	officialPath  = "library/"
	defaultTag    = "latest"
	// maxReferencePath is the limit of domain and path together.
	maxReferencePath = 255
)

// Reference is an image name in its parts, all of them filled in.
type Reference struct {
	// Domain is the registry, "docker.io" where the name told none.
	Domain string
	// Path is the repository, "library/" included.
	Path string
	// Tag is "latest" where the name told none.
	Tag string
}

// The grammar of names is that of the distribution specification's reference
// package, which Docker, containerd and podman share.
var (
	referencePath = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	referenceTag  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	domainLabels  = `([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])`
	referenceHost = regexp.MustCompile(`^(` + domainLabels + `(\.` + domainLabels + `)*|\[[a-fA-F0-9:]+\])(:[0-9]+)?$`)
)

// ParseReference reads an image name in the manner of Docker:
// [domain/]path[:tag]. Errors are ErrReference. Names by digest are refused: the
// store knows images by the digest of their config, not of their manifest.
func ParseReference(s string) (Reference, error) {
	refuse := func(why string) (Reference, error) {
		return Reference{}, fmt.Errorf("%w %s: %s", ErrReference, printable(s), why)
	}
	if s == "" {
		return refuse("it is empty")
	}
	if strings.Contains(s, "@") {
		return refuse("names by digest are not kept; use name:tag, or the image's id")
	}
	if hexDigest.MatchString(s) {
		return refuse("64 hexadecimal digits are an id, not a name")
	}
	r := Reference{Domain: defaultDomain, Path: s, Tag: defaultTag}
	if first, rest, ok := strings.Cut(s, "/"); ok && isDomain(first) {
		r.Domain, r.Path = first, rest
	}
	if i := strings.LastIndexByte(r.Path, ':'); i >= 0 {
		r.Path, r.Tag = r.Path[:i], r.Path[i+1:]
	}
	if r.Domain == legacyDomain {
		r.Domain = defaultDomain
	}
	if r.Domain == defaultDomain && !strings.Contains(r.Path, "/") {
		r.Path = officialPath + r.Path
	}
	switch {
	case !referenceHost.MatchString(r.Domain):
		return refuse("the registry is not a host name")
	case r.Path != strings.ToLower(r.Path):
		return refuse("the repository must be in lower case")
	case !referencePath.MatchString(r.Path):
		return refuse("the repository may hold lower-case letters, digits, and separators (. _ __ - /) between them")
	case len(r.Domain)+1+len(r.Path) > maxReferencePath:
		return refuse(fmt.Sprintf("the repository has more than %d characters", maxReferencePath))
	case !referenceTag.MatchString(r.Tag):
		return refuse("a tag has up to 128 letters, digits, _, . and -, and begins with none of the last two")
	}
	return r, nil
}

// isDomain tells a registry from the first part of a path: it has a dot or a
// port, is localhost, or has letters that no path may have.
func isDomain(first string) bool {
	return strings.ContainsAny(first, ".:") || first == "localhost" || strings.ToLower(first) != first
}

// String is the full form, with domain and tag: docker.io/library/debian:12.
func (r Reference) String() string { return r.Domain + "/" + r.Path + ":" + r.Tag }

// Familiar is the short form in which Docker shows names and the store keeps
// them: debian:12.
func (r Reference) Familiar() string {
	if r.Domain != defaultDomain {
		return r.String()
	}
	if short, ok := strings.CutPrefix(r.Path, officialPath); ok && !strings.Contains(short, "/") {
		return short + ":" + r.Tag
	}
	if first, _, _ := strings.Cut(r.Path, "/"); isDomain(first) {
		return r.String() // docker.io/localhost/x is not localhost/x
	}
	return r.Path + ":" + r.Tag
}

// Normalize gives the familiar form of a name.
func Normalize(s string) (string, error) {
	r, err := ParseReference(s)
	if err != nil {
		return "", err
	}
	return r.Familiar(), nil
}
