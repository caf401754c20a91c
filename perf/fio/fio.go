package fio

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"blockstore.dev/blockstore/perf"
)

//go:embed *.fio
var files embed.FS

// The job files.
const (
	Database = "database"
	Queue    = "queue"
	Steady   = "steady"
)

// Job says what a job file leaves open.
type Job struct {
	File string // one of the job files
	Dir  string // where the file lies that is named "file"
	Size int64  // that file's, in bytes
	Part string // of Steady: the only one that is run; "" for all
	// Time is that of each part of Steady, beside a fifth of it before that is not counted.
	Time time.Duration
	// Requests are those of each other job, and of a part of Steady that has no Time.
	Requests int
}

// Result is one part of a job.
type Result struct {
	Name string
	// Rates per second, of requests and of bytes.
	Requests, Bytes float64
	// Latency is the 99th percentile: of requests, or, where the job waits for the disk
	// after each of them, of those waits.
	Latency time.Duration
}

// Run runs fio and returns the parts of the job in their order.
func Run(ctx context.Context, j Job) ([]Result, error) {
	text, err := files.ReadFile(j.File + ".fio")
	if err != nil {
		return nil, err
	}
	// It would leave its verify state in the directory that it is started in.
	args := []string{"--output-format=json"}
	if j.Part != "" {
		args = append(args, "--section="+j.Part)
	}
	cmd := exec.CommandContext(ctx, "fio", append(args, "-")...)
	cmd.Dir = j.Dir
	cmd.Stdin = strings.NewReader(string(text))
	cmd.Env = append(os.Environ(),
		"DIR="+j.Dir, fmt.Sprint("SIZE=", j.Size), fmt.Sprint("REQUESTS=", j.Requests), "TIMED=0", "RUNTIME=0", "RAMP=0")
	if j.Time > 0 { // of names that stand there twice the last holds
		cmd.Env = append(cmd.Env, "TIMED=1", "REQUESTS=0",
			fmt.Sprintf("RUNTIME=%dms", max(1, j.Time.Milliseconds())), fmt.Sprintf("RAMP=%dms", j.Time.Milliseconds()/5))
	}
	said, err := perf.OutputOf(cmd)
	if err != nil {
		return nil, fmt.Errorf("fio's job %s: %w", j.File, err)
	}
	return parse(said)
}

// output is what is read of fio's JSON.
type output struct {
	Jobs []struct {
		Name  string    `json:"jobname"`
		Error int       `json:"error"`
		Read  direction `json:"read"`
		Write direction `json:"write"`
		Sync  direction `json:"sync"` // waits for the disk, where the job has them
	} `json:"jobs"`
}

type direction struct {
	Total   int64   `json:"total_ios"`
	IOPS    float64 `json:"iops"`
	Bytes   float64 `json:"bw_bytes"`
	Latency struct {
		Percentile map[string]float64 `json:"percentile"`
	} `json:"lat_ns"`
}

// ninetyNine is how fio spells the percentile.
const ninetyNine = "99.000000"

// parse reads fio's JSON. What it says before that, on lines of their own, is for
// people.
func parse(said string) ([]Result, error) {
	begin := strings.Index(said, "{")
	if begin < 0 {
		return nil, fmt.Errorf("fio said no JSON: %.200q", said)
	}
	var o output
	if err := json.Unmarshal([]byte(said[begin:]), &o); err != nil {
		return nil, fmt.Errorf("fio's JSON: %w", err)
	}
	if len(o.Jobs) == 0 {
		return nil, fmt.Errorf("fio did no job: %.200q", said)
	}
	var results []Result
	for _, j := range o.Jobs {
		d := j.Write
		if j.Read.Total > 0 {
			d = j.Read
		}
		waits := d
		if j.Sync.Total > 0 { // a write into the page cache says nothing
			waits = j.Sync
		}
		p99, ok := waits.Latency.Percentile[ninetyNine]
		switch {
		case j.Error != 0:
			return nil, fmt.Errorf("fio's part %s ended with error %d", j.Name, j.Error)
		case d.Total == 0 || !ok:
			return nil, fmt.Errorf("fio's part %s did nothing", j.Name)
		}
		results = append(results, Result{j.Name, d.IOPS, d.Bytes, time.Duration(p99)})
	}
	return results, nil
}
