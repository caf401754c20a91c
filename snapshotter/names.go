package snapshotter

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// prefix is that of all names that this door gives.
const prefix = "containerd/"

// Key takes a name in the store apart: the plugin of containerd's that has the
// snapshot, and the key that the plugin was given. ok is false for what is not
// containerd's.
func Key(name string) (plugin, key string, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}

// scope is the part of the store's name space that belongs to one plugin of a
// containerd: a prefix of names, with a slash at its end.
type scope string

// scopeOf is the scope of a plugin. containerd's identifiers have letters, digits,
// and single dots, dashes and underscores between them.
func scopeOf(plugin string) (scope, error) {
	if plugin == "" || strings.ContainsFunc(plugin, notIdentifier) {
		return "", fmt.Errorf("%q is no name of a snapshotter: %w", plugin, errdefs.ErrInvalidArgument)
	}
	return scope(prefix + plugin + "/"), nil
}

func notIdentifier(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
}

// name is what the store calls a key.
func (s scope) name(key string) (string, error) {
	if key == "" {
		return "", fmt.Errorf("the empty key: %w", errdefs.ErrInvalidArgument)
	}
	return string(s) + key, nil
}

// parent is what the store calls a parent, and "" for none.
func (s scope) parent(key string) string {
	if key == "" {
		return ""
	}
	return string(s) + key
}

// key undoes name; ok is false for what is outside the scope.
func (s scope) key(name string) (key string, ok bool) { return strings.CutPrefix(name, string(s)) }
