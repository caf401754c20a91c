// flush: preloaded into User Mode Linux, whose kernel has the host write a disk's file out whenever the guest flushes
// the disk: for each commit of a thin pool three times. That is for when the host loses its power, and no
// disk here outlives that: what the machine has written is in the host's page cache, and stays there when the
// machine is killed. Within the machine flushes are what they were: the kernel's block layer sends them, and dm-log-writes
// sees them.
int fsync(int fd)
{
	(void)fd;
	return 0;
}

int fdatasync(int fd)
{
	(void)fd;
	return 0;
}
