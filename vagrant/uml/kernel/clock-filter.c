			/*
			 * Put in front of the filter by which a program's system calls come to the kernel (arch/um/kernel/skas/stub_exe.c):
			 * two clocks, the first two, are the host's, and the host is asked for them (clock_gettime(2), x86-64's own call alone).
			 */
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clock_gettime, 0, 5),
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, UM_SECCOMP_ARCH_NATIVE, 0, 3),
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
			BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 1 /* CLOCK_MONOTONIC; 0 is CLOCK_REALTIME */, 1, 0),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),

