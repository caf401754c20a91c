package machine

import (
	"os"
	"path/filepath"
	"time"
)

// stillInterval is how often is looked whether the command writes.
const stillInterval = time.Second

// silence is how long a command has written nothing.
type silence struct {
	files   []string
	written int64
	since   time.Time
}

func newSilence(work string) *silence {
	return &silence{files: []string{filepath.Join(work, stdoutFile), filepath.Join(work, stderrFile)}, since: time.Now()}
}

// lasts looks at the output and says since when it is what it is.
func (s *silence) lasts() time.Duration {
	var written int64
	for _, file := range s.files {
		if st, err := os.Stat(file); err == nil {
			written += st.Size()
		}
	}
	if written != s.written {
		s.written, s.since = written, time.Now()
	}
	return time.Since(s.since)
}
