# Changes what seed.py made, in every way that a layer has to tell. Prints what it can.
import os, shutil, sys, zlib

W = b'/files'
os.chdir(W)


def write(name, content, how='wb'):
    with open(name, how) as f:
        f.write(content)


def settle(top):
    """Gives new files a time that follows from their name; what seed.py stamped and nobody touched keeps its own."""
    for dir, dirs, files in os.walk(top, topdown=False):
        for name in sorted(dirs + files):
            stamp(os.path.join(dir, name))
    stamp(top)


def stamp(path):
    if os.lstat(path).st_mtime > 1.5e9:
        h = zlib.crc32(b'changed' + path)
        t = (1078307200 + h % 10**8) * 10**9 + 1 + h % 999999999
        os.utime(path, ns=(t, t), follow_symlinks=False)


write(b'edit', b'edited, and longer than before\n')
size = os.path.getsize(b'edit-same-size')
write(b'edit-same-size', b'x' * size)
os.utime(b'touch', ns=(10**18 + 1, 10**18 + 2))
os.chmod(b'chmod', 0o600)
os.chown(b'chown', 1000, 1001)
os.unlink(b'delete')
os.truncate(b'truncate', 3)
write(b'append', b'appended\n', 'ab')
with open(b'large', 'r+b') as f:
    f.seek(100_000)
    f.write(b'in the middle')
os.chmod(b'setuid', 0o755)
os.chown(b'cap-kept', 5, 5)  # the kernel drops the capability
os.setxattr(b'cap', 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))
os.removexattr(b'cap-removed', 'security.capability')
write(b'new', b'new\n')
write(b'new-cap', b'new\n')
os.setxattr(b'new-cap', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))

os.unlink(b'hard/split.2')
write(b'hard/split.2', b'alone now\n')
os.unlink(b'hard/shrunk.3')
# A second name of a file of the image below. Drivers that compare trees see two files.
if 'link' in sys.argv:
    os.link(b'hard/single', b'hard/second')
write(b'hard/new.1', b'new link\n')
os.link(b'hard/new.1', b'hard/new.2')

os.unlink(b'links/retarget')
os.symlink(b'../edit', b'links/retarget')
write(b'links/to-dir/through', b'written through a link\n')
os.symlink(b'/', b'links/new')

os.chdir(b'turn')
shutil.rmtree(b'dir-to-file')
write(b'dir-to-file', b'file now\n')
shutil.rmtree(b'dir-to-link')
os.symlink(b'dir-to-dir', b'dir-to-link')
shutil.rmtree(b'dir-to-dir')
os.mkdir(b'dir-to-dir')
write(b'dir-to-dir/f9', b'in the new one\n')
os.unlink(b'file-to-dir')
os.mkdir(b'file-to-dir')
write(b'file-to-dir/f', b'f\n')
os.unlink(b'file-to-link')
os.symlink(b'file-to-dir', b'file-to-link')
os.unlink(b'file-to-fifo')
os.mkfifo(b'file-to-fifo')
os.unlink(b'link-to-dir')
os.mkdir(b'link-to-dir')
os.unlink(b'link-to-file')
write(b'link-to-file', b'file\n')
shutil.move('renamed', 'new-name')  # overlay refuses to rename a directory of a lower layer; mv copies then
for f in os.listdir(b'emptied'):
    os.unlink(os.path.join(b'emptied', f))
shutil.rmtree(b'removed')
os.chmod(b'chmod-dir', 0o700)
os.chown(b'chmod-dir', 3, 4)
shutil.rmtree(b'opaque/sub')
os.makedirs(b'opaque/sub')
write(b'opaque/sub/f1', b'opaque/sub 1\n')
os.chdir(W)

os.unlink(b'fifo')
os.mkfifo(b'fifo', 0o600)
os.chmod(b'char', 0o600)
with open(b'sparse', 'r+b') as f:
    f.seek(9 << 20)
    f.write(b'more data\n')
os.makedirs(b'new-dir/sub')
write(b'new-dir/sub/file', b'new\n')

os.unlink('/etc/issue.net')
write('/etc/motd', b'changed\n')
os.utime('/etc/motd', ns=(10**18, 10**18 + 5))
os.utime('/etc', ns=(10**18, 10**18 + 5))
settle(W)
print('changed', len(os.listdir(W)))
