
/*
 * Put behind arch/um/kernel/time.c: the kernel's clocks are the host's from the beginning, to some microseconds, since programs
 * read the host's. They are never ahead of it, so that no timer goes off before its time.
 */
struct clocksource *__init clocksource_default_clock(void)
{
	/* What clocksource_register_hz() will find for it. */
	timer_clocksource.shift = 23;
	timer_clocksource.mult = (u32)TIMER_MULTIPLIER << 23;
	return &timer_clocksource;
}

void __init read_persistent_wall_and_boot_offset(struct timespec64 *wall_time, struct timespec64 *boot_offset)
{
	*boot_offset = ns_to_timespec64(os_nsecs());
	read_persistent_clock64(wall_time);
}
