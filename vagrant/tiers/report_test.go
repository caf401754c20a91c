package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// of makes a tier from "package test" to outcome.
func of(name string, results map[string]result) *tier {
	t := newTier(name)
	for key, r := range results {
		pkg, test, _ := strings.Cut(key, " ")
		t.results[testKey{pkg, test}] = r
	}
	return t
}

var (
	yes  = result{outcome: passed}
	no   = result{outcome: failed, output: "broken\n"}
	noDM = result{outcome: skipped, reason: "no device-mapper in this kernel"}
)

func reported(tiers []*tier, more ...error) (string, error) {
	var w strings.Builder
	err := report(&w, tiers, more)
	return w.String(), err
}

func TestASkipThatPassedElsewhereHasPassed(t *testing.T) {
	text, err := reported([]*tier{
		of(hostTier, map[string]result{"p": yes, "p TestA": yes, "p TestB": noDM}),
		of(umlTier, map[string]result{"p": yes, "p TestB": yes, "p TestB/one": yes, "p TestB/two": yes}),
	})
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(text, "\n3 passed, 0 failed, 0 skipped\n"), text)
	assert.NotContains(t, text, "skipped in every tier")
}

func TestASkipEverywhereIsListedWithItsReason(t *testing.T) {
	text, err := reported([]*tier{
		of(hostTier, map[string]result{"p TestA": yes, "p TestB": {outcome: skipped, reason: "no ZFS"}}),
	})
	require.NoError(t, err)
	assert.Contains(t, text, "skipped in every tier:\n  p TestB: no ZFS\n")
	assert.Contains(t, text, "1 passed, 0 failed, 1 skipped")
}

func TestWantingDeviceMapperInUMLIsAFailure(t *testing.T) {
	tiers := []*tier{
		of(hostTier, map[string]result{"p TestA": yes, "p TestB": noDM}),
		of(umlTier, map[string]result{"p TestB": noDM}),
	}
	_, err := reported(tiers)
	require.Error(t, err)
	_, err = reported(tiers[:1])
	require.NoError(t, err, "the host alone cannot do better")
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name  string
		tiers []*tier
		more  []error
		want  string
	}{
		{"a test", []*tier{of(hostTier, map[string]result{"p": no, "p TestA": no, "p TestB": yes})}, nil, "1 passed, 1 failed"},
		{"in one tier of two", []*tier{of(hostTier, map[string]result{"p TestA": yes}), of(umlTier, map[string]result{"p TestA": no})}, nil, "0 passed, 1 failed"},
		{"a subtest", []*tier{of(hostTier, map[string]result{"p": no, "p TestA": no, "p TestA/x": no, "p TestA/y": yes})}, nil, "1 passed, 1 failed"},
		{"a parent by itself", []*tier{of(hostTier, map[string]result{"p": no, "p TestA": no, "p TestA/x": yes})}, nil, "1 passed, 1 failed"},
		{"a package by itself", []*tier{of(hostTier, map[string]result{"p": no, "p TestA": yes})}, nil, "1 passed, 1 failed"},
		{"an empty tier", []*tier{of(hostTier, map[string]result{"p TestA": yes}), of(umlTier, nil)}, nil, "1 passed, 1 failed"},
		{"a leak", []*tier{of(hostTier, map[string]result{"p TestA": yes})}, []error{errors.New("left behind: loop0")}, "1 passed, 1 failed"},
		{"nothing", []*tier{of(hostTier, map[string]result{"p TestA": {outcome: skipped, reason: "no root"}})}, nil, "0 passed, 0 failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, err := reported(test.tiers, test.more...)
			require.Error(t, err)
			assert.Contains(t, text, "\n"+test.want)
		})
	}
}

func TestUMLSelection(t *testing.T) {
	host := of(hostTier, map[string]result{
		"a TestX": noDM, "a TestY": yes, "a TestZ/one_(two)": noDM,
		"b TestX": {outcome: skipped, reason: "no udev"}, "b TestY": {outcome: skipped, reason: "no ZFS"}, "b": yes, "c": {outcome: skipped, reason: "no test files"},
	})
	b := []string{`^TestY$`}
	assert.Equal(t, map[string][]string{"a": {`^TestX$`, `^TestZ$/^one_\(two\)$`}, "b": b}, umlSelection(host, nil, nil))
	assert.Equal(t, map[string][]string{"a": {`^TestX$`, `^TestY$`}, "b": b}, umlSelection(host, []string{"a"}, nil))
	assert.Equal(t, map[string][]string{"a": {`^TestX$`}, "b": b}, umlSelection(host, []string{"a"}, regexp.MustCompile("TestY$")))
}

func TestWholeSelection(t *testing.T) {
	host := of(hostTier, map[string]result{"a": yes, "a TestX": noDM, "a TestY": yes, "a TestZ": yes, "a TestZ/one": yes, "b TestX": yes})
	assert.Equal(t, map[string][]string{"a": {`^TestX$`, `^TestZ$`}}, wholeSelection(host, []string{"a"}, regexp.MustCompile("a TestY$")))
	assert.Empty(t, wholeSelection(host, nil, nil))
}

func TestVMSelection(t *testing.T) {
	noUdev, noZFS := result{outcome: skipped, reason: "no udev runs here"}, result{outcome: skipped, reason: "no ZFS in this kernel"}
	tiers := []*tier{
		of(hostTier, map[string]result{"a TestX": noDM, "a TestY": yes, "a TestZ/one": noZFS, "b TestX": noUdev, "b TestY": noZFS, "c TestX": noDM, "d TestX": yes, "e TestX": noZFS}),
		of(umlTier, map[string]result{"e TestX": yes, "a TestX": yes, "a TestZ/one": noZFS, "b TestX": yes, "c TestX": {outcome: skipped, reason: "no systemd here"}}),
	}
	selection, flags := vmSelection(tiers, []string{"d"})
	assert.Equal(t, map[string][]string{"a": {"^TestZ$/^one$"}, "b": {"^TestX$", "^TestY$"}, "c": {"^TestX$"}, "d": {"^TestX$"}}, selection)
	assert.Equal(t, map[string][]string{"b": {"--udev"}, "c": {"--systemd"}}, flags)
	m := &machines{kernel: vmKernel(options{}), queue: newQueue(), left: map[string]int{}}
	m.add(selection, flags)
	runs := m.queue.waiting
	require.Len(t, runs, 4, "a machine per package where no test takes minutes")
	assert.Equal(t, "b ^TestX$|^TestY$", runs[1].pkg+" "+runs[1].run)
	assert.Equal(t, []string{"--udev"}, runs[1].flags)
}

func TestWantingZFSInAMachineIsAFailure(t *testing.T) {
	noZFS := result{outcome: skipped, reason: "no ZFS in this kernel"}
	tiers := []*tier{
		of(hostTier, map[string]result{"p TestA": yes, "p TestB": noZFS}),
		of(umlTier, map[string]result{"p TestB": noZFS, "p TestA": yes}),
		of(vmTier, map[string]result{"p TestB": noZFS}),
	}
	text, err := reported(tiers)
	require.Error(t, err)
	assert.Contains(t, text, "tier vm has what it wants")
	_, err = reported(tiers[:1])
	require.NoError(t, err, "this kernel need not have ZFS")
}

func TestDealOut(t *testing.T) {
	assert.Equal(t, []machineRun{
		{pkg: "a", run: "^TestConformance$"},
		{pkg: "a", run: "^TestCrashExt4$"},
		{pkg: "a", run: "^TestX$|^TestY$|^TestCrashExt4$/^One$"},
		{pkg: "whole"},
	}, dealOut(map[string][]string{"whole": nil, "a": {"^TestX$", "^TestConformance$", "^TestCrashExt4$", "^TestY$", "^TestCrashExt4$/^One$"}}))
}

// TestLeaveOut: what is left to `make test-vm` is not picked, is no failure, and says so.
func TestLeaveOut(t *testing.T) {
	host, vm := newTier(hostTier), newTier(vmTier)
	host.results[testKey{"p/slow", "TestA"}] = result{outcome: skipped, reason: "no ZFS in this kernel"}
	host.results[testKey{"p/slow", "TestB"}] = result{outcome: skipped, reason: "no device-mapper"}
	host.results[testKey{"p/fast", "TestA"}] = result{outcome: skipped, reason: "no ZFS in this kernel"}
	leaveOut([]*tier{host}, nil)
	leaveOut([]*tier{host}, regexp.MustCompile("/slow "))
	selection, _ := vmSelection([]*tier{host}, nil)
	require.Equal(t, map[string][]string{"p/fast": {"^TestA$"}}, selection)
	require.Equal(t, "no device-mapper", host.results[testKey{"p/slow", "TestB"}].reason)
	vm.results[testKey{"p/fast", "TestA"}] = result{outcome: passed}
	var text strings.Builder
	require.NoError(t, report(&text, []*tier{host, vm}, nil))
	require.Contains(t, text.String(), "p/slow TestA: left to `make test-vm`")
}

// TestSlowest: tests of all tiers, the longest first, and none that are below others.
func TestSlowest(t *testing.T) {
	text, err := reported([]*tier{
		of(hostTier, map[string]result{"p": {outcome: passed, seconds: 40}, "p TestA": {outcome: passed, seconds: 30.04}, "p TestA/x": {outcome: passed, seconds: 29}, "p TestB": yes}),
		of(umlTier, map[string]result{"p TestC": {outcome: passed, seconds: 31}}),
	})
	require.NoError(t, err)
	assert.Contains(t, text, "took longest:\n    31.0 s  uml   p TestC\n    30.0 s  host  p TestA\n\n")
}
