package ioctl

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestObserve: each call is told once, with its number and its errno, and none after the end.
func TestObserve(t *testing.T) {
	f, err := os.Open(t.TempDir())
	require.NoError(t, err)
	defer f.Close()
	type told struct {
		request uintptr
		err     error
	}
	var all []told
	Observe(func(request uintptr, err error, took time.Duration) {
		require.GreaterOrEqual(t, took, time.Duration(0))
		all = append(all, told{request, err})
	})
	t.Cleanup(func() { Observe(nil) })
	_, err = BlockSize(f) // a directory is no block device
	require.ErrorIs(t, err, unix.ENOTTY)
	_, flagsErr := InodeFlags(f)
	Observe(nil)
	_, _ = BlockSize(f)
	require.Equal(t, []told{{unix.BLKGETSIZE64, unix.ENOTTY}, {fsIocGetflags(), flagsErr}}, all)
}

// TestNames: every request of the sources has its name, and no two share a number.
func TestNames(t *testing.T) {
	names := Names()
	require.Equal(t, Name{"device-mapper", "DM_DEV_SUSPEND"}, names[DMRequest(DM_DEV_SUSPEND_CMD)])
	require.Equal(t, Name{"device-mapper", "DM_GET_TARGET_VERSION"}, names[DMRequest(DM_GET_TARGET_VERSION_CMD)])
	require.Len(t, names, len(dmNames())+len(btrfsNames())+len(zfsNames())+len(blockNames())+len(fsNames()))
	table, err := os.ReadFile("names.go")
	require.NoError(t, err)
	for _, file := range []string{"block.go", "btrfs.go", "fs.go", "zfs_abi.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		var wanted []string
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && regexp.MustCompile(`^(btrfs|fi|fsIoc|ext4Ioc|xfsIoc)[A-Z]`).MatchString(f.Name.Name) && f.Type.Params.NumFields() == 0 {
				wanted = append(wanted, f.Name.Name+"()")
			}
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
				for _, s := range g.Specs {
					for i, v := range s.(*ast.ValueSpec).Values {
						if x, ok := v.(*ast.SelectorExpr); ok && strings.HasPrefix(x.Sel.Name, "BLK") {
							wanted = append(wanted, "unix."+x.Sel.Name)
						}
						if n := s.(*ast.ValueSpec).Names[i].Name; strings.HasPrefix(n, "ZFS_IOC_") {
							wanted = append(wanted, n)
						}
					}
				}
			}
		}
		require.NotEmpty(t, wanted, file)
		for _, w := range wanted {
			require.Contains(t, string(table), w, file)
		}
	}
}

// BenchmarkUnobserved is what nobody's looking costs, beside a look that counts.
func BenchmarkUnobserved(b *testing.B) {
	f, err := os.Open(b.TempDir())
	require.NoError(b, err)
	defer f.Close()
	run := func(b *testing.B) {
		for b.Loop() {
			if _, err := call(int(f.Fd()), unix.BLKGETSIZE64, nil); !errors.Is(err, unix.ENOTTY) {
				b.Fatal(err)
			}
		}
	}
	b.Run("unobserved", run)
	b.Run("observed", func(b *testing.B) {
		Observe(func(uintptr, error, time.Duration) {})
		b.Cleanup(func() { Observe(nil) })
		run(b)
	})
}
