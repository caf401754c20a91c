package lint

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// goFile is one parsed Go file.
type goFile struct {
	path    string // from the repository's root, with slashes
	dir     string
	test    bool
	syntax  *ast.File
	fileSet *token.FileSet
}

// position is where a node stands, for a finding.
func (f goFile) position(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fileSet.Position(n.Pos()).Line)
}

// imports lists the file's imports, each with its node.
func (f goFile) imports() map[string]ast.Node {
	found := map[string]ast.Node{}
	for _, spec := range f.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			found[p] = spec
		}
	}
	return found
}

// qualifier is the name by which the file refers to an imported package, or
// "" where it does not import it.
func (f goFile) qualifier(pkg string) string {
	for _, spec := range f.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err != nil || p != pkg {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(pkg)
	}
	return ""
}

// uses reports every use of those of the package's names that want accepts.
func (f goFile) uses(pkg string, want func(name string) bool) []*ast.SelectorExpr {
	qualifier := f.qualifier(pkg)
	if qualifier == "" {
		return nil
	}
	var found []*ast.SelectorExpr
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == qualifier && want(sel.Sel.Name) {
				found = append(found, sel)
			}
		}
		return true
	})
	return found
}

// tree is the repository as the rules see it.
type tree struct {
	module string
	files  []goFile
	texts  map[string][]byte // every text file, Go or not
}

// load reads a repository. What is built or is git's own is left out.
func load(root fs.FS) (*tree, error) {
	t := &tree{texts: map[string][]byte{}}
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		built := slices.Contains([]string{".git", "bin", "out", "vagrant/.vagrant"}, p)
		switch {
		case built && d.IsDir():
			return fs.SkipDir
		case built || !d.Type().IsRegular():
			return nil
		}
		return t.add(root, p)
	})
	return t, err
}

func (t *tree) add(root fs.FS, p string) error {
	text, err := fs.ReadFile(root, p)
	if err != nil {
		return err
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return nil // not text
	}
	t.texts[p] = text
	if p == "go.mod" {
		lines := bufio.NewScanner(bytes.NewReader(text))
		for lines.Scan() {
			if module, ok := strings.CutPrefix(lines.Text(), "module "); ok {
				t.module = strings.TrimSpace(module)
			}
		}
	}
	if !strings.HasSuffix(p, ".go") || strings.Contains(p, "testdata/") {
		return nil
	}
	fileSet := token.NewFileSet()
	syntax, err := parser.ParseFile(fileSet, p, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.files = append(t.files, goFile{
		path: p, dir: path.Dir(p), test: strings.HasSuffix(p, "_test.go"), syntax: syntax, fileSet: fileSet,
	})
	return nil
}

// repository loads the repository that this package lies in.
func repository(t *testing.T) *tree {
	t.Helper()
	loaded, err := load(os.DirFS("../.."))
	require.NoError(t, err)
	require.NotEmpty(t, loaded.module, "go.mod names the module")
	require.NotEmpty(t, loaded.files)
	return loaded
}

// example makes a tree of files given as path and text.
func example(t *testing.T, files map[string]string) *tree {
	t.Helper()
	root := fstest.MapFS{"go.mod": {Data: []byte("module example.org/m\n")}}
	for p, text := range files {
		root[p] = &fstest.MapFile{Data: []byte(text)}
	}
	loaded, err := load(root)
	require.NoError(t, err)
	return loaded
}
