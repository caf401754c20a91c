package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/term"
)

// isTerminal says whether a stream is a person's screen or keyboard.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	raw, err := f.SyscallConn() // f.Fd would make it blocking
	if err != nil {
		return false
	}
	is := false
	err = raw.Control(func(fd uintptr) { is = term.IsTerminal(int(fd)) })
	return err == nil && is
}

// archiveToStdout checks that nobody gets an archive onto the screen.
func (a *app) archiveToStdout() error {
	if isTerminal(a.stdout) {
		return usagef("not writing an archive to a terminal: name a file with -o FILE, or redirect stdout")
	}
	return nil
}

// archiveFromStdin checks that nobody is waited for who does not know it.
func (a *app) archiveFromStdin() error {
	if isTerminal(a.stdin) {
		return usagef("not reading an archive from a terminal: name a file with -i FILE, or redirect stdin")
	}
	return nil
}

// writeFile has write fill path, or stdout for "-". A file is there whole and
// durable, or not at all.
func (a *app) writeFile(path string, write func(io.Writer) error) (err error) {
	if path == "-" {
		b := bufio.NewWriterSize(a.stdout, 1<<20)
		return errors.Join(write(b), b.Flush())
	}
	path, err = a.file(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".blockstore-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignore(f.Close(), os.ErrClosed), ignore(os.Remove(f.Name()), os.ErrNotExist))
		}
	}()
	b := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(write(b), b.Flush()); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

// input is stdin for as long as ctx lives, where source is "-": a read from a pipe
// ends with ctx, although the kernel's read goes on. A regular file stays what it is,
// so that it can be read by offset.
func (a *app) input(ctx context.Context, source string) io.Reader {
	if source != "-" {
		return nil
	}
	if f, ok := a.stdin.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			return f
		}
	}
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
	go func() { // ends with the input, or with the process that reads no more
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{a.stdin}, make([]byte, 1<<18))
		_ = w.CloseWithError(err)
	}()
	return r
}
