package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// event is one line of `go test -json`, as `go doc test2json` describes it.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build events
	FailedBuild string
	Test        string
	Output      string
	Elapsed     float64 // seconds
	Key, Value  string  // of attributes
}

// outcome of a test or a package.
type outcome string

const (
	passed  outcome = "pass"
	failed  outcome = "fail"
	skipped outcome = "skip"
)

// testKey names a test. An empty test names the package itself.
type testKey struct{ pkg, test string }

// result is how one test ended in one tier.
type result struct {
	outcome outcome
	reason  string // why it was skipped, in the test's words
	output  string // what it printed, unless it passed
	seconds float64
	log     string // what it logged, if it passed
	suite   string // the column that it fills of the conformance suite's table, or ""
}

// tier is what ran on one kernel.
type tier struct {
	name    string
	results map[testKey]result
	seconds float64
}

func newTier(name string) *tier { return &tier{name: name, results: map[testKey]result{}} }

// only is the part of a tier that is about one package.
func (t *tier) only(pkg string) *tier {
	part := newTier(t.name)
	for key, r := range t.results {
		if key.pkg == pkg {
			part.results[key] = r
		}
	}
	return part
}

// collector turns events into results.
type collector struct {
	tier    *tier
	outputs map[testKey]*strings.Builder
	builds  map[string]*strings.Builder
	seen    map[testKey]bool // started and not ended
	suites  map[testKey]string
	notify  func(testKey, result)
}

func newCollector(t *tier, notify func(testKey, result)) *collector {
	return &collector{
		tier: t, notify: notify,
		outputs: map[testKey]*strings.Builder{}, builds: map[string]*strings.Builder{}, seen: map[testKey]bool{},
		suites: map[testKey]string{},
	}
}

// read takes events until the stream ends. Lines that are no events (a
// compiler's complaint, say) go to other.
func (c *collector) read(r io.Reader, other io.Writer) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(other, line)
			} else {
				c.add(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading test events: %w", err)
		}
	}
}

func (c *collector) add(e event) {
	key := testKey{e.Package, e.Test}
	switch e.Action {
	case "start", "run":
		c.seen[key] = true
	case "attr":
		if e.Key == suiteAttribute {
			c.suites[key] = e.Value
		}
	case "build-output":
		builder(c.builds, e.ImportPath).WriteString(e.Output)
	case "output":
		builder(c.outputs, key).WriteString(e.Output)
	case "pass", "fail", "skip":
		r := result{outcome: outcome(e.Action), seconds: e.Elapsed}
		output := builder(c.outputs, key).String()
		if e.FailedBuild != "" {
			output = builder(c.builds, e.FailedBuild).String() + output
		}
		if r.outcome == passed {
			r.log = logged(output)
		} else {
			r.output = output
		}
		if r.outcome == skipped {
			r.reason = reasonIn(output)
		}
		c.end(key, r)
	}
}

func (c *collector) end(key testKey, r result) {
	delete(c.seen, key)
	delete(c.outputs, key)
	r.suite = c.suites[key]
	c.tier.results[key] = r
	if c.notify != nil {
		c.notify(key, r)
	}
}

// noVerdict ends the output of a test that began and never ended.
const noVerdict = "ended without a verdict\n"

// finish marks what began and never ended, which is what a panic or a time
// limit leaves behind, as failed. status is the process's own.
func (c *collector) finish(pkg string, status error) {
	for key := range c.seen {
		if pkg == "" || key.pkg == pkg {
			c.end(key, result{outcome: failed, output: builder(c.outputs, key).String() + noVerdict})
		}
	}
	if key := (testKey{pkg: pkg}); pkg != "" && status != nil {
		r := c.tier.results[key]
		if r.outcome != failed {
			c.end(key, result{outcome: failed, output: r.output + status.Error() + "\n"})
		}
	}
}

func builder[K comparable](m map[K]*strings.Builder, key K) *strings.Builder {
	if m[key] == nil {
		m[key] = &strings.Builder{}
	}
	return m[key]
}

// logLine is how a line begins that a test logged.
var logLine = regexp.MustCompile(`^\s*\w+\.go:\d+: `)

// logged picks what a test logged out of its output, the first line of each entry.
func logged(output string) string {
	var b strings.Builder
	for line := range strings.Lines(output) {
		if logLine.MatchString(line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// reasonIn picks a skipped test's own words out of its output.
func reasonIn(output string) string {
	var words []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		// "file_test.go:12: no device-mapper": the place is noise here.
		if place, rest, ok := strings.Cut(line, ": "); ok && strings.Contains(place, ".go:") {
			line = rest
		}
		words = append(words, line)
	}
	if len(words) == 0 {
		return "no reason given"
	}
	return strings.Join(words, " ")
}

// sortedKeys orders tests by package and name.
func sortedKeys[V any](m map[testKey]V) []testKey {
	keys := make([]testKey, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b testKey) int {
		if c := strings.Compare(a.pkg, b.pkg); c != 0 {
			return c
		}
		return strings.Compare(a.test, b.test)
	})
	return keys
}
