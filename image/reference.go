package image

// Reference is an image name in its parts, all of them filled in.
type Reference struct {
	// Domain is the registry, "docker.io" where the name told none.
	Domain string
	// Path is the repository, "library/" included.
	Path string
	// Tag is "latest" where the name told none.
	Tag string
}

// ParseReference reads an image name in the manner of Docker:
// [domain/]path[:tag]. Errors are ErrReference. Names by digest are refused: the
// store knows images by the digest of their config, not of their manifest.
func ParseReference(s string) (Reference, error) { panic("soon") }

// String is the full form, with domain and tag: docker.io/library/debian:12.
func (r Reference) String() string { return r.Domain + "/" + r.Path + ":" + r.Tag }

// Familiar is the short form in which Docker shows names and the store keeps
// them: debian:12.
func (r Reference) Familiar() string { panic("soon") }

// Normalize gives the familiar form of a name.
func Normalize(s string) (string, error) {
	r, err := ParseReference(s)
	if err != nil {
		return "", err
	}
	return r.Familiar(), nil
}
