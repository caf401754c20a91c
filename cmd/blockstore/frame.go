package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/snapshot"
)

// What goes over a server's control socket: frames of four bytes of length, the
// highest first, and a JSON document. Unknown fields are ignored, so that two
// versions understand each other; what they cannot understand is another
// protocol number.
const (
	controlSocket   = snapshot.ControlSocket // below the store's root
	controlProtocol = 1
	// maxFrame has room for what execve(2) takes as arguments, 6 MiB, in base64.
	maxFrame = 10 << 20
	// callStreams are stdin, stdout and stderr; they come with the first bytes
	// of a call, as descriptors (unix(7), SCM_RIGHTS).
	callStreams = 3
)

// hello is the server's first frame.
type hello struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`
	// Unit is the systemd unit that the server is, if it is one.
	Unit string `json:"unit,omitempty"`
	// Refused says why the server will not listen.
	Refused string `json:"refused,omitempty"`
}

// call is a command line's first frame. Arguments and directory are bytes, as
// file names are.
type call struct {
	Version string   `json:"version"`
	Args    [][]byte `json:"args"`
	Dir     []byte   `json:"dir"`
}

// notice is any later frame of the command line.
type notice struct {
	// Interrupt asks the server to undo what was begun.
	Interrupt bool `json:"interrupt,omitempty"`
}

// answer is any later frame of the server: Begun first, then Code.
type answer struct {
	Begun bool `json:"begun,omitempty"`
	Code  *int `json:"code,omitempty"`
}

var errMalformed = errors.New("malformed message")

func frameOf(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(body) > maxFrame {
		return nil, fmt.Errorf("a message of %d bytes: at most %d go to a server", len(body), maxFrame)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...), nil
}

func writeFrame(w io.Writer, v any) error {
	frame, err := frameOf(v)
	if err != nil {
		return err
	}
	_, err = w.Write(frame)
	return err
}

func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	return readBody(r, head, v)
}

// readBody reads what follows a frame's length. Memory grows with what comes, not
// with what was announced.
func readBody(r io.Reader, head [4]byte, v any) error {
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("%w: %d bytes announced, at most %d are read", errMalformed, n, maxFrame)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if err := json.Unmarshal(b.Bytes(), v); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	return nil
}

// sendCall hands a command line over with its streams.
func sendCall(conn *net.UnixConn, c call, streams []*os.File) error {
	frame, err := frameOf(c)
	if err != nil {
		return err
	}
	fds := make([]int, len(streams))
	for i, f := range streams {
		fds[i] = int(f.Fd())
	}
	n, _, err := conn.WriteMsgUnix(frame[:4], unix.UnixRights(fds...), nil)
	if err != nil {
		return err
	}
	_, err = conn.Write(frame[n:])
	return err
}

// receiveCall is the other end of sendCall. After an error no descriptor is left
// open.
func receiveCall(conn *net.UnixConn) (c call, fds []int, err error) {
	defer func() {
		if err != nil {
			closeAll(fds)
			fds = nil
		}
	}()
	var head [4]byte
	rights := make([]byte, unix.CmsgSpace(callStreams*4))
	n, rn, flags, _, err := conn.ReadMsgUnix(head[:], rights)
	if err != nil {
		return c, nil, err
	}
	fds, err = descriptors(rights[:rn])
	if err != nil {
		return c, fds, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if len(fds) != callStreams || flags&unix.MSG_CTRUNC != 0 {
		return c, fds, fmt.Errorf("%w: %d descriptors, %d are wanted", errMalformed, len(fds), callStreams)
	}
	if _, err := io.ReadFull(conn, head[n:]); err != nil {
		return c, fds, err
	}
	return c, fds, readBody(conn, head, &c)
}

// descriptors reads what came with a message; all that it returns are open.
func descriptors(rights []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, m := range messages {
		more, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fds, err
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
