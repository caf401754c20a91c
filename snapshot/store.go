package snapshot

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"blockstore.dev/blockstore/snapshot/mount"
)

type Store struct{}

type StoreOptions struct {
	Root  string
	Kinds []Kind
	// Wait is how long to wait for another process that has the store.
	Wait time.Duration
	// Chosen is kept by Init: why this driver.
	Chosen string
	// Waiting is called once if another process has the store.
	Waiting func(holder string)
}

func Init(ctx context.Context, kind Kind, o InitOptions, chosen string) error { panic("soon") }
func Open(ctx context.Context, o StoreOptions) (*Store, error)                { panic("soon") }
func Destroy(ctx context.Context, o StoreOptions) error                       { panic("soon") }
func (s *Store) Close(ctx context.Context) error                              { panic("soon") }

func (s *Store) Stat(ctx context.Context, name string) (Info, error)       { panic("soon") }
func (s *Store) List(ctx context.Context) ([]Info, error)                  { panic("soon") }
func (s *Store) Children(ctx context.Context, name string) ([]Info, error) { panic("soon") }
func (s *Store) Create(ctx context.Context, name string, r CreateRequest) (Info, error) {
	panic("soon")
}
func (s *Store) View(ctx context.Context, name string, r CreateRequest) (Info, error) { panic("soon") }
func (s *Store) Remove(ctx context.Context, name string) error                        { panic("soon") }
func (s *Store) Load(ctx context.Context, r LoadRequest) (Image, error)               { panic("soon") }
func (s *Store) Commit(ctx context.Context, container string, r CommitRequest) (Image, Info, error) {
	panic("soon")
}

// Mounts: for somebody else to perform. Mount performs them at a directory of the store.
func (s *Store) Mounts(ctx context.Context, name string) ([]mount.Mount, error) { panic("soon") }
func (s *Store) Mount(ctx context.Context, name string) (string, error)         { panic("soon") }
func (s *Store) Unmount(ctx context.Context, name string) error                 { panic("soon") }

// Use shows the tree of a snapshot for reading while the caller needs it.
func (s *Store) Use(ctx context.Context, name string) (dir string, release func() error, err error) {
	panic("soon")
}

// WriteLayer writes the layer's tar, byte for byte as it came in; its digest is verified.
func (s *Store) WriteLayer(ctx context.Context, name string, w io.Writer) error { panic("soon") }

// Export writes the whole tree of a container, view or layer as one tar.
func (s *Store) Export(ctx context.Context, name string, w io.Writer) error { panic("soon") }

func (s *Store) Images(ctx context.Context) ([]Image, error) { panic("soon") }

// Image finds an image by name, by id, or by an unambiguous beginning of its id (≥ 4 hex digits, with or without "sha256:").
func (s *Store) Image(ctx context.Context, ref string) (Image, error)        { panic("soon") }
func (s *Store) Tag(ctx context.Context, id digest.Digest, ref string) error { panic("soon") }

// RemoveImage takes a name away (ref is a name) or the image (ref is an id); an image without names goes, with the layers
// that nothing else needs. It says what went.
func (s *Store) RemoveImage(ctx context.Context, ref string, force bool) (untagged []string, deleted []string, err error) {
	panic("soon")
}

func (s *Store) Usage(ctx context.Context, name string) (Usage, error)  { panic("soon") }
func (s *Store) Status(ctx context.Context) (StoreStatus, error)        { panic("soon") }
func (s *Store) Check(ctx context.Context, repair bool) (Report, error) { panic("soon") }

// GC removes layers that no image, container, view or other layer needs.
func (s *Store) GC(ctx context.Context) (removed []string, err error) { panic("soon") }
func (s *Store) Driver() Driver                                       { panic("soon") }

// TempFile makes an unnamed file below the store's root, for spooling.
