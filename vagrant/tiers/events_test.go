package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// collected reads events as lines of JSON into a tier.
func collected(t *testing.T, name string, lines ...string) (*tier, *collector) {
	t.Helper()
	tier := newTier(name)
	c := newCollector(tier, nil)
	require.NoError(t, c.read(strings.NewReader(strings.Join(lines, "\n")), io.Discard))
	return tier, c
}

func TestCollectorKeepsReasonsAndOutputs(t *testing.T) {
	tier, _ := collected(t, "host",
		`{"Action":"start","Package":"p"}`,
		`{"Action":"run","Package":"p","Test":"TestA"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:12: no device-mapper in this kernel\n"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}`,
		`{"Action":"skip","Package":"p","Test":"TestA","Elapsed":0}`,
		`{"Action":"run","Package":"p","Test":"TestB"}`,
		`{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:3: broken\n"}`,
		`{"Action":"fail","Package":"p","Test":"TestB","Elapsed":1.5}`,
		`{"Action":"fail","Package":"p","Elapsed":2}`,
	)
	assert.Equal(t, "no device-mapper in this kernel", tier.results[testKey{"p", "TestA"}].reason)
	b := tier.results[testKey{"p", "TestB"}]
	assert.Equal(t, failed, b.outcome)
	assert.Contains(t, b.output, "broken")
	assert.InDelta(t, 1.5, b.seconds, 0)
}

// TestLogs: the figures that a passed test logged are printed, and what else it and the kernel said is not.
func TestLogs(t *testing.T) {
	tier, _ := collected(t, "uml",
		`{"Action":"run","Package":"p","Test":"TestA"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:12: 300 crash points\n"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"EXT4-fs (dm-1): mounted\n"}`,
		`{"Action":"pass","Package":"p","Test":"TestA","Elapsed":1}`,
		`{"Action":"run","Package":"p","Test":"TestB"}`,
		`{"Action":"pass","Package":"p","Test":"TestB","Elapsed":1}`,
	)
	var w strings.Builder
	printLogs(&w, tier)
	assert.Contains(t, w.String(), "== p TestA\n")
	assert.Contains(t, w.String(), "a_test.go:12: 300 crash points\n")
	assert.NotContains(t, w.String(), "mounted")
	assert.NotContains(t, w.String(), "TestB")
}

func TestCollectorPassesOnWhatIsNoEvent(t *testing.T) {
	var other strings.Builder
	c := newCollector(newTier("host"), nil)
	require.NoError(t, c.read(strings.NewReader("# p\nundefined: x"), &other))
	assert.Equal(t, "# p\nundefined: x", other.String())
}

func TestFailedBuildTellsTheCompilersWords(t *testing.T) {
	tier, _ := collected(t, "host",
		`{"ImportPath":"p [p.test]","Action":"build-output","Output":"p/a.go:1: undefined: x\n"}`,
		`{"ImportPath":"p [p.test]","Action":"build-fail"}`,
		`{"Action":"start","Package":"p"}`,
		`{"Action":"fail","Package":"p","Elapsed":0,"FailedBuild":"p [p.test]"}`,
	)
	assert.Contains(t, tier.results[testKey{pkg: "p"}].output, "undefined: x")
}

func TestWhatNeverEndedHasFailed(t *testing.T) {
	tier, c := collected(t, "uml",
		`{"Action":"start","Package":"p"}`,
		`{"Action":"run","Package":"p","Test":"TestA"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"last words\n"}`,
	)
	c.finish("p", errors.New("exit status 125"))
	a := tier.results[testKey{"p", "TestA"}]
	assert.Equal(t, failed, a.outcome)
	assert.Contains(t, a.output, "last words")
	assert.Equal(t, failed, tier.results[testKey{pkg: "p"}].outcome)
}

func TestAStatusFailsAPackageWhoseTestsPassed(t *testing.T) {
	tier, c := collected(t, "uml", `{"Action":"pass","Package":"p"}`)
	c.finish("p", errors.New("exit status 3"))
	assert.Equal(t, failed, tier.results[testKey{pkg: "p"}].outcome)
}

// TestHandedOn: tests that get a machine of their own go to another tier while their package is still at work, and in the sum it
// gets the very machines that it would if all went with the packages' ends.
func TestHandedOn(t *testing.T) {
	event := func(action, test string) string {
		pkg, test, _ := strings.Cut(test, " ")
		return fmt.Sprintf(`{"Action":%q,"Package":%q,"Test":%q}`, action, pkg, test)
	}
	skip := func(test, reason string) string {
		pkg, name, _ := strings.Cut(test, " ")
		return fmt.Sprintf(`{"Action":"output","Package":%q,"Test":%q,"Output":"a_test.go:1: %s\\n"}`, pkg, name, reason) + "\n" + event("skip", test)
	}
	whole, leave := []string{"e"}, regexp.MustCompile("^e Test(DockerLeft|SmallLeft)$")
	ofUML := func(of *tier) map[string][]string { return umlSelection(of, whole, leave) }
	ofZFS := func(of *tier) map[string][]string { return wholeSelection(of, whole, leave) }
	host := newTier(hostTier)
	var handed, uml, umlAtOnce, zfs, zfsAtOnce []string
	runs := func(selection map[string][]string) (all []string) {
		for _, run := range dealOut(selection) {
			all = append(all, run.pkg+" "+run.run)
		}
		return all
	}
	c := newCollector(host, func(ended testKey, _ result) {
		part := handedOn(host, ended, whole)
		for _, run := range runs(ofUML(part)) {
			handed = append(handed, ended.String()+": "+run)
		}
		uml, zfs = append(uml, runs(ofUML(part))...), append(zfs, runs(ofZFS(part))...)
		if ended.test == "" {
			left := host.only(ended.pkg)
			umlAtOnce, zfsAtOnce = append(umlAtOnce, runs(ofUML(left))...), append(zfsAtOnce, runs(ofZFS(left))...)
		}
	})
	require.NoError(t, c.read(strings.NewReader(strings.Join([]string{
		event("start", "e"), event("start", "p"),
		event("pass", "e TestInitAuto"),
		skip("p TestConformance", "no device-mapper"), event("pass", "p TestCrashExt4"),
		event("pass", "e TestDockerOne/sub"), skip("e TestDockerOne/other", "no device-mapper"), event("pass", "e TestDockerOne"),
		event("fail", "e TestDockerFailed/sub"), event("fail", "e TestDockerFailed"),
		event("pass", "e TestDockerLeft"), event("pass", "e TestSmallLeft"),
		skip("e TestContainerdHere", "no thin pool"), skip("e TestContainerdThere", "no udev runs here"),
		event("pass", "e TestScripts/one"), event("pass", "e TestScripts"),
		skip("p TestZ/one", "no ZFS"), event("pass", "p TestZ"), event("pass", "p"),
		skip("e TestMicroVM", "no ZFS"), skip("e TestElsewhere", "no systemd here"),
		event("run", "e TestKubelet"), event("pass", "e TestKubelet/sub"), event("fail", "e"),
		event("start", "n"), event("skip", "n"), event("start", "b"), event("fail", "b"),
	}, "\n")), io.Discard))
	c.finish("", errors.New("exit status 1"))
	require.Equal(t, failed, host.results[testKey{"e", "TestKubelet"}].outcome)
	assert.Equal(t, []string{
		"e TestDockerOne: e ^TestDockerOne$", "e TestDockerFailed: e ^TestDockerFailed$", "e TestContainerdHere: e ^TestContainerdHere$",
		"e TestScripts: e ^TestScripts$", "p: p ^TestConformance$", "p: p ^TestZ$/^one$", "e: e ^TestInitAuto$|^TestMicroVM$",
	}, handed)
	assert.ElementsMatch(t, umlAtOnce, uml)
	assert.ElementsMatch(t, zfsAtOnce, zfs)
	assert.Contains(t, zfs, "e ^TestContainerdThere$", "the zfs tier has no reasons to look at")
}

func TestReasonIn(t *testing.T) {
	for _, test := range []struct{ name, output, want string }{
		{"one line", "=== RUN   TestX\n    x_test.go:7: no btrfs\n--- SKIP: TestX (0.00s)\n", "no btrfs"},
		{"two lines", "    x_test.go:7: no btrfs:\n        load the module\n", "no btrfs: load the module"},
		{"none", "=== RUN   TestX\n--- SKIP: TestX (0.00s)\n", "no reason given"},
		{"a colon in the reason", "    x_test.go:7: opening /x: denied\n", "opening /x: denied"},
	} {
		t.Run(test.name, func(t *testing.T) { assert.Equal(t, test.want, reasonIn(test.output)) })
	}
}
