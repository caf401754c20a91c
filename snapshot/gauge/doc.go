// Package gauge makes a file system without content whose statfs(2) says how full
// something else is: a thin pool, which no file system of the machine shows, or a ZFS
// dataset with all that is below it, of which each mount shows its own part.
//
// kubelet decides by statfs of a directory when to remove images and pods (containerd's
// exports.root; cadvisor's fs.GetDirFsInfo, which knows ext4 by its device). The file
// system is ext4 of the pool's size on a loop device, whose sparse backing file has no name
// and goes with the mount. One file in it takes the blocks that the pool has in use: they
// are allocated and never written (fallocate(2)), and so take nothing of the disk.
//
// Words: the total is what statfs gives as its blocks; the ballast is the file.
package gauge
