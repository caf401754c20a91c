package lint

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// rule is one of the house's rules with source that breaks it.
type rule struct {
	check  func(*tree) []string
	broken map[string]string // path to text; every file breaks the rule
}

func rules() map[string]rule {
	return map[string]rule{
		"imports run downward": {importOrder, map[string]string{
			"dm/a.go":            "package dm\nimport _ \"example.org/m/thinpool\"\n",
			"dm/b.go":            "package dm\nimport _ \"example.org/m/btrfsvol\"\n",
			"image/a.go":         "package image\nimport _ \"example.org/m/snapshot/thin\"\n",
			"image/b.go":         "package image\nimport _ \"example.org/m/dm\"\n",
			"snapshot/a.go":      "package snapshot\nimport _ \"example.org/m/snapshot/btrfs\"\n",
			"snapshot/thin/a.go": "package thin\nimport _ \"example.org/m/snapshot/btrfs\"\n",
			"cmd/x/a.go":         "package main\nimport _ \"example.org/m/ioctl\"\n",
			"dm/a_test.go":       "package dm\nimport _ \"example.org/m/vagrant/uml\"\n",
			"nowhere/a.go":       "package nowhere\n",
		}},
		"raw calls live in ioctl": {rawCalls, map[string]string{
			"dm/a.go":      "package dm\nimport _ \"unsafe\"\n",
			"dm/b.go":      "package dm\nimport \"golang.org/x/sys/unix\"\nvar _ = unix.Syscall\n",
			"dm/c_test.go": "package dm\nimport s \"syscall\"\nvar _ = s.RawSyscall6\n",
		}},
		"no cgo": {noCgo, map[string]string{"ioctl/a.go": "package ioctl\nimport \"C\"\n"}},
		"no forks": {forks, map[string]string{
			"dm/a.go": "package dm\nimport \"os/exec\"\nvar _ = exec.CommandContext\n",
			"dm/b.go": "package dm\nimport \"os\"\nvar _ = os.StartProcess\n",
		}},
		"one package comment": {packageComments, map[string]string{
			"a/a.go":      "package a\n",
			"b/b.go":      "// Package b is.\npackage b\n",
			"c/c.go":      "// Package c is.\npackage c\n",
			"dm/doc.go":   "package dm\n",
			"dm/x/doc.go": "package x\n",
		}},
		"a skip says why": {silentSkips, map[string]string{
			"a/a_test.go": "package a\nfunc f(t T) { t.SkipNow() }\n",
			"a/b_test.go": "package a\nfunc g(t T) { t.Skip() }\n",
		}},
		"no sleeps in tests": {sleeps, map[string]string{"a/a_test.go": "package a\nfunc f() { time.Sleep(1) }\n"}},
		"no init":            {initFunctions, map[string]string{"a/a.go": "package a\nfunc init() {}\n"}},
		"no vague packages":  {vagueNames, map[string]string{"a/util/a.go": "package util\n"}},
		"short files":        {longFiles, map[string]string{"a/a.go": "package a\n" + string(slices.Repeat([]byte("//\n"), maxLines))}},
		"the module's path stands once": {modulePath, map[string]string{
			"Makefile": "go build example.org/m/cmd\n",
			"a/a.go":   "package a\n\nconst name = \"example.org/m\"\n",
		}},
		"nothing of one machine": {machines, map[string]string{
			"a.sh": "cd /ho" + "me/me/src\n",
			"b.md": "see http" + "://mirror.internal.net/debian\n",
		}},
	}
}

func TestHouse(t *testing.T) {
	repo := repository(t)
	for name, r := range rules() {
		t.Run(name, func(t *testing.T) {
			findings := r.check(repo)
			slices.Sort(findings)
			for _, finding := range findings {
				t.Error(finding)
			}
		})
	}
}

// TestRulesFind shows that each rule can fail.
func TestRulesFind(t *testing.T) {
	for name, r := range rules() {
		t.Run(name, func(t *testing.T) {
			for _, p := range slices.Sorted(maps.Keys(r.broken)) {
				assert.Len(t, r.check(example(t, map[string]string{p: r.broken[p]})), 1, p)
			}
		})
	}
}

func TestRulesAllow(t *testing.T) {
	good := example(t, map[string]string{
		"ioctl/doc.go": "// Package ioctl is.\npackage ioctl\n",
		"ioctl/a.go":   "package ioctl\n\nimport (\n\t\"unsafe\"\n\n\t\"golang.org/x/sys/unix\"\n)\n\nvar _ = unix.Syscall\n",
		"dm/doc.go":    "// Package dm is.\npackage dm\n",
		"dm/a.go":      "package dm\n\nimport (\n\t\"example.org/m/ioctl\"\n\tother \"example.org/m/ioctl\"\n)\n",
		"dm/a_test.go": "package dm\n\nimport _ \"example.org/m/thinpool\"\n\nfunc f(t T) { t.Skip(\"no device-mapper\") }\n",
		"README.md":    "go get example.org/m/dm, see https" + "://docs.kernel.org/x and /home/\n",
	})
	for name, r := range rules() {
		assert.Empty(t, r.check(good), name)
	}
}
