package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Files of the work directory by which the host asks what a machine that stands still
// is doing.
const (
	askFile   = "ask"
	tasksFile = "tasks"
)

const (
	askInterval   = time.Second
	taskSample    = time.Second      // between two looks at the processor's time that tasks take
	tasksPatience = 20 * time.Second // the machine's, to say what its tasks do
	quitPatience  = 5 * time.Second  // the command's, to say it of itself
)

// askTasks has the guest say what its tasks do, and the command what it does: SIGQUIT
// makes a Go program write its goroutines' stacks to stderr and end.
func askTasks(work string) string {
	if err := os.WriteFile(filepath.Join(work, askFile), nil, 0o600); err != nil {
		return err.Error()
	}
	for began := time.Now(); time.Since(began) < tasksPatience; time.Sleep(askInterval) {
		text, err := os.ReadFile(filepath.Join(work, tasksFile))
		if err == nil {
			time.Sleep(quitPatience)
			return string(text)
		}
	}
	return fmt.Sprintf("process 1 did not answer within %s\n", tasksPatience)
}

// answerAsked waits for the host to ask. It is for a goroutine of the guest's.
func answerAsked(work string, command int) {
	for {
		time.Sleep(askInterval)
		if _, err := os.Stat(filepath.Join(work, askFile)); err == nil {
			break
		}
	}
	file := filepath.Join(work, tasksFile)
	err := os.WriteFile(file+".new", []byte(describeTasks()), 0o600)
	if err = errors.Join(err, os.Rename(file+".new", file)); err != nil {
		fmt.Println("init: saying what the tasks do:", err)
	}
	if err := unix.Kill(command, unix.SIGQUIT); err != nil {
		fmt.Println("init: asking the command:", err)
	}
}

// describeTasks has a paragraph for each task that is no idle thread of the kernel's:
// who it is, its state, what it took of the processor in a second in clock ticks (user and
// kernel), and the kernel's stack.
func describeTasks() string {
	before := taskTimes()
	time.Sleep(taskSample)
	var b strings.Builder
	for dir, now := range taskTimes() {
		stack, _ := os.ReadFile(filepath.Join(dir, "stack"))
		was := before[dir]
		if now.user == 0 && now.kernel == was.kernel && now.state == "S" || now.state == "I" {
			continue
		}
		fmt.Fprintf(&b, "%s %s state %s, ticks %d+%d\n%s", dir, now.name, now.state, now.user-was.user, now.kernel-was.kernel, stack)
	}
	return b.String()
}

// taskTime is part of a task's stat file, see proc_pid_stat(5).
type taskTime struct {
	name, state  string
	user, kernel int
}

func taskTimes() map[string]taskTime {
	times := map[string]taskTime{}
	dirs, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has ended
		}
		begin, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
		rest := strings.Fields(string(text)[end+1:])
		if begin < 0 || len(rest) < 13 {
			continue
		}
		t := taskTime{name: string(text)[begin : end+1], state: rest[0]}
		t.user, _ = strconv.Atoi(rest[11])
		t.kernel, _ = strconv.Atoi(rest[12])
		times[dir] = t
	}
	return times
}
