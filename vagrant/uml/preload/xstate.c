// xstate: preloaded into User Mode Linux on processors with more extended state
// (Intel's AMX: 11 KiB) than the 2696 bytes that it knows. ptrace(2) writes the state
// of a process only as a whole, so that what User Mode Linux hands it is refused with
// EFAULT. Here its bytes are laid over the state that the process has, and that is
// written. What it does not know of keeps its value: no program in the machine has it,
// since the kernel gives AMX to those that ask (arch_prctl(2)), and this one does not.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

static long (*real)(int request, pid_t pid, void *addr, void *data);

__attribute__((constructor)) static void find(void)
{
	real = (long (*)(int, pid_t, void *, void *))dlsym(RTLD_NEXT, "ptrace");
}

// whole writes state as the beginning of all the state that the process has.
static long whole(pid_t pid, const struct iovec *state)
{
	static char buffer[1 << 16];
	struct iovec all = { buffer, sizeof(buffer) };

	if (real(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &all) < 0)
		return -1;
	if (all.iov_len > state->iov_len)
		memcpy(buffer, state->iov_base, state->iov_len);
	else // the kernel knows no more than was handed over
		all = *state;
	return real(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list args;
	va_start(args, request);
	pid_t pid = va_arg(args, pid_t);
	void *addr = va_arg(args, void *);
	void *data = va_arg(args, void *);
	va_end(args);

	if (request != PTRACE_SETREGSET || addr != (void *)NT_X86_XSTATE)
		return real(request, pid, addr, data);

	// User Mode Linux switches between its processes in signal handlers, which would
	// come back here, into the same buffer.
	sigset_t everything, before;
	sigfillset(&everything);
	sigprocmask(SIG_BLOCK, &everything, &before);
	long result = whole(pid, data);
	int why = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = why;
	return result;
}
