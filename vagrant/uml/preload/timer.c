// timer: preloaded into User Mode Linux, whose kernel loses interrupts of its clock. One
// that comes while signals are off and the one before is still being handled is marked as
// pending, and the mark is dropped without the timer's handler being called again
// (unblock_signals() in Linux 6.1's arch/um/os-Linux/signal.c). Since the host's timer is
// set to go off once for each interrupt, that was the last, until something makes the
// kernel set it anew: ticks and sleeps stand still, for ever if no processor goes idle.
// Here each such timer goes on until the kernel sets it again. An interrupt more does no
// harm: the kernel looks for what has expired, and finds nothing.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

enum { again = 1000 * 1000 }; // nanoseconds: a tick of the kernel's (HZ is 1,000)

static int (*real)(timer_t timer, int flags, const struct itimerspec *new, struct itimerspec *old);

__attribute__((constructor)) static void find(void)
{
	real = (int (*)(timer_t, int, const struct itimerspec *, struct itimerspec *))dlsym(RTLD_NEXT, "timer_settime");
}

int timer_settime(timer_t timer, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	struct itimerspec t = *new;

	if ((t.it_value.tv_sec || t.it_value.tv_nsec) && !t.it_interval.tv_sec && !t.it_interval.tv_nsec)
		t.it_interval.tv_nsec = again;
	return real(timer, flags, &t, old);
}
