package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

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
