# What a POSIX file system does, and Docker's own drivers lose on the way.
import os

os.chdir('/files')

# A file with several names in the image below stays one file. overlay2 writes to a copy.
with open('hard/written.2', 'w') as f:
    f.write('all three say this\n')
os.link('hard/grown.1', 'hard/grown.4')
os.link('hard/grown.4', 'grown.5')
os.unlink('hard/shrunk.1')
os.chmod('hard/kept.3', 0o600)

# Content changes, size and time do not: not in overlay2's docker diff, and not in vfs's commit.
st = os.stat('same')
with open('same', 'r+b') as f:
    f.write(b'CONTENT')
os.utime('same', ns=(st.st_atime_ns, st.st_mtime_ns))

# Attributes that are in no tar of Docker's.
os.setxattr('attr', 'user.note', b'new')
os.removexattr('keep', 'user.note')
os.utime('touch', ns=(10**18 + 1, 10**18 + 2))

# A directory in which nothing is left of what happened. overlay2 lists it as changed.
os.mkdir('hard/for a moment')
os.rmdir('hard/for a moment')
