package graphdriver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// peer is who is at the other end of a connection.
type peer struct {
	uid uint32
	pid int32 // 0 if it lives in another pid namespace
}

type peerKey struct{}

// withPeer asks the kernel whom a connection is with, see SO_PEERCRED in unix(7).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer{uid: cred.Uid, pid: cred.Pid})
}

func peerOf(ctx context.Context) (peer, bool) {
	p, ok := ctx.Value(peerKey{}).(peer)
	return p, ok
}

// process is a process that may have ended since, and its number been given away.
type process struct {
	pid   int32
	began string
}

// processOf identifies a process that lives.
func processOf(pid int32) process {
	return process{pid: pid, began: beganAt(pid)}
}

func (p process) lives() bool { return p.pid != 0 && p.began != "" && beganAt(p.pid) == p.began }

// beganAt is when a process was started, in ticks since boot (proc_pid_stat(5),
// starttime); "" for one that is gone.
func beganAt(pid int32) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name may hold anything; the fields begin after its last parenthesis.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const starttime = 22 - 3
	if len(fields) <= starttime || fields[0] == "Z" {
		return ""
	}
	return fields[starttime]
}
