package perf

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Environment are facts about the kernel's world that move figures, beside those of
// Machine: as far as they can be read.
func Environment() map[string]string {
	facts := map[string]string{"udev": "no", "processors": "one, without SMP"}
	if version, err := os.ReadFile("/proc/version"); err == nil && strings.Contains(string(version), " SMP") {
		facts["processors"] = "SMP"
	}
	if _, err := os.Stat("/run/udev/control"); err == nil {
		facts["udev"] = "yes"
	}
	// By how much sleeps may be late, those of Go's runtime too.
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err == nil {
		facts["timer slack"] = time.Duration(slack).String()
	}
	for name, file := range map[string]string{
		"rcu_expedited": "/sys/kernel/rcu_expedited",
		"preemption":    "/sys/kernel/debug/sched/preempt",
		"dirty_ratio":   "/proc/sys/vm/dirty_ratio",
		"governor":      "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
	} {
		if text, err := os.ReadFile(file); err == nil {
			facts[name] = strings.TrimSpace(string(text))
		}
	}
	return facts
}
