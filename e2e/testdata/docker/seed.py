# Makes what change.py changes: everything that a layer can say about a file.
import os, socket, sys, zlib

W = b'/files'


def put(name, content=b'', mode=0o644):
    path = os.path.join(W, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f:
        f.write(content)
    os.chmod(path, mode)
    return path


def settle(top):
    """Gives every file a time that follows from its name, with nanoseconds."""
    for dir, dirs, files in os.walk(top, topdown=False):
        for name in sorted(dirs + files):
            stamp(os.path.join(dir, name))
    stamp(top)


def stamp(path):
    h = zlib.crc32(path)
    t = (978307200 + h % 10**8) * 10**9 + 1 + h % 999999999
    os.utime(path, ns=(t, t), follow_symlinks=False)


put(b'keep', b'kept\n')
for name in (b'edit', b'edit-same-size', b'touch', b'chmod', b'chown', b'delete', b'truncate', b'append', b'attr', b'same'):
    put(name, b'content of ' + name + b'\n')
put(b'large', bytes(range(256)) * 4096)
put(b'empty')
put(b'setuid', b'#!/bin/sh\n', 0o4755)
put(b'unreadable', b'secret\n', 0o000)
put(b'a space/and \xc3\xa4/\xe2\x82\xac', b'utf-8\n')
put(b'not utf-8 \xff\xfe', b'latin\n')
put(b'n' * 255, b'longest name\n')
put(b'/'.join([b'deep'] * 60) + b'/file', b'long path\n')

# Hard links: one group per thing that happens to it.
for group in (b'hard/kept', b'hard/written', b'hard/split', b'hard/shrunk', b'hard/grown'):
    first = put(group + b'.1', b'linked: ' + group + b'\n')
    os.link(first, os.path.join(W, group + b'.2'))
    os.link(first, os.path.join(W, group + b'.3'))
put(b'hard/single', b'single\n')

# Symbolic links.
os.makedirs(W + b'/links/dir')
put(b'links/dir/in', b'through a link\n')
os.symlink(b'dir', W + b'/links/to-dir')
os.symlink(b'/files/keep', W + b'/links/absolute')
os.symlink(b'nowhere', W + b'/links/dangling')
os.symlink(b'../keep', W + b'/links/retarget')
os.lchown(W + b'/links/absolute', 12, 34)

# What becomes something else.
for name in (b'dir-to-file', b'dir-to-link', b'dir-to-dir', b'renamed/sub', b'emptied', b'removed/sub', b'chmod-dir', b'opaque/sub'):
    for i in range(3):
        put(b'turn/%s/f%d' % (name, i), b'%s %d\n' % (name, i))
put(b'turn/file-to-dir', b'file\n')
put(b'turn/file-to-link', b'file\n')
put(b'turn/file-to-fifo', b'file\n')
os.symlink(b'dir-to-dir', W + b'/turn/link-to-dir')
os.symlink(b'dir-to-dir/f0', W + b'/turn/link-to-file')
os.makedirs(W + b'/sticky')
os.chmod(W + b'/sticky', 0o1777)
os.makedirs(W + b'/setgid')
os.chmod(W + b'/setgid', 0o2775)
os.chown(W + b'/setgid', 0, 50)

# Special files.
os.mkfifo(W + b'/fifo', 0o640)
os.mknod(W + b'/char', 0o20666, os.makedev(1, 3))
os.mknod(W + b'/block', 0o60660, os.makedev(7, 200))
s = socket.socket(socket.AF_UNIX)
s.bind(W + b'/socket')

# 16 MiB with three written places.
with open(put(b'sparse'), 'r+b') as f:
    f.truncate(16 << 20)
    for at in (0, 5 << 20, (16 << 20) - 5):
        f.seek(at)
        f.write(b'data\n')

# cap_net_bind_service=ep, revision 2, as setcap writes it.
CAP = bytes.fromhex('0100000200040000000000000000000000000000')
for name in (b'cap', b'cap-removed', b'cap-kept'):
    os.setxattr(put(name, b'#!/bin/sh\n', 0o755), 'security.capability', CAP)
os.setxattr(W + b'/keep', 'user.note', b'kept')

settle(W)
print('seeded', len(os.listdir(W)))
