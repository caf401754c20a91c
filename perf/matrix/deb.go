package matrix

import (
	"archive/tar"
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"time"
)

// debFile is a file of a package.
type debFile struct {
	name string // from its root
	size int64
	seed uint64 // of its random bytes
}

// writeDeb writes a package as dpkg takes it: deb(5), with plain tars. The same files
// give the same bytes.
func writeDeb(file, version string, files []debFile) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString("!<arch>\n"); err != nil {
		return err
	}
	control := "Package: release\nVersion: " + version + "\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: files that a benchmark has replaced\n"
	for _, m := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{"debian-binary", func(w io.Writer) error { _, err := io.WriteString(w, "2.0\n"); return err }},
		{"control.tar", func(w io.Writer) error { return writeControl(w, control) }},
		{"data.tar", func(w io.Writer) error { return writeData(w, files) }},
	} {
		if err := writeMember(f, m.name, m.write); err != nil {
			return fmt.Errorf("%s of %s: %w", m.name, file, err)
		}
	}
	return nil
}

// writeMember appends a member to an archive of ar(5), whose header has the size that
// it turns out to have.
func writeMember(f *os.File, name string, write func(io.Writer) error) error {
	const header = 60
	begin, err := f.Seek(header, io.SeekCurrent)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, mebibyte)
	if err := errors.Join(write(w), w.Flush()); err != nil {
		return err
	}
	end, err := f.Seek(0, io.SeekCurrent)
	if err == nil && (end-begin)%2 == 1 {
		_, err = f.WriteString("\n")
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.NewOffsetWriter(f, begin-header), "%-16s%-12d%-6d%-6d%-8o%-10d`\n", name, debTime().Unix(), 0, 0, 0o100644, end-begin)
	return err
}

// debTime is when everything in a package is from.
func debTime() time.Time { return time.Unix(1_700_000_000, 0) }

func writeControl(w io.Writer, control string) error {
	t := tar.NewWriter(w)
	if err := t.WriteHeader(&tar.Header{Name: "./control", Mode: 0o644, Size: int64(len(control)), ModTime: debTime()}); err != nil {
		return err
	}
	_, err := io.WriteString(t, control)
	return errors.Join(err, t.Close())
}

// writeData writes the files, each after its directories.
func writeData(w io.Writer, files []debFile) error {
	t := tar.NewWriter(w)
	made := map[string]bool{}
	for _, f := range files {
		if err := writeDirs(t, path.Dir(f.name), made); err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: "./" + f.name, Mode: 0o644, Size: f.size, ModTime: debTime()}); err != nil {
			return err
		}
		if _, err := io.CopyN(t, f.content(), f.size); err != nil {
			return err
		}
	}
	return t.Close()
}

// content is as much as is asked for.
func (f debFile) content() io.Reader {
	return rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), f.seed)))
}

// writeDirs writes a directory and those above it, once each.
func writeDirs(t *tar.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	name := "./"
	if dir != "." {
		if err := writeDirs(t, path.Dir(dir), made); err != nil {
			return err
		}
		name += dir + "/"
	}
	made[dir] = true
	return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: debTime()})
}
