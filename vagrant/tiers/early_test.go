package main

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestEarlySelection: what was begun early is not run again, and what waits for the host's result is run then.
func TestEarlySelection(t *testing.T) {
	leave := regexp.MustCompile("a TestOne$|a TestNone$")
	early := earlySelection(map[string][]string{"a": {"TestNone", "TestOne", "TestTwo"}}, leave)
	assert.Equal(t, map[string][]string{"a": {"^TestTwo$"}}, early)

	host := of(hostTier, map[string]result{"a TestNone": yes, "a TestOne": noDM, "a TestTwo": noDM, "b TestX": noDM})
	selected := umlSelection(host, []string{"a"}, leave)
	assert.Equal(t, map[string][]string{"a": {"^TestOne$"}, "b": {"^TestX$"}}, without(selected, early))

	assert.Equal(t, map[string][]string{"b": {"^TestX$"}}, without(map[string][]string{"a": {"^TestTwo$"}, "b": {"^TestX$"}}, early))
}

// TestSecondsOfAPackage are those of all its machines.
func TestSecondsOfAPackage(t *testing.T) {
	g := &gatherer{tier: newTier(umlTier), tell: func(testKey, result) {}}
	for _, seconds := range []float64{2, 3} {
		one := newTier(umlTier)
		one.results[testKey{pkg: "p"}] = result{outcome: passed, seconds: seconds}
		g.add(one, nil)
	}
	assert.InDelta(t, 5, g.tier.results[testKey{pkg: "p"}].seconds, 0.01)
}
