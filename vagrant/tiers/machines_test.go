package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

// TestAfter: what was found of a package is told once, when all has run that was added of it, however often that was.
func TestAfter(t *testing.T) {
	m, err := newMachines(options{}, kernel{tier: umlTier, limit: 1})
	require.NoError(t, err)
	var found []*tier
	tell := func(t *tier) { found = append(found, t) }
	for _, pkg := range []string{"p", "q"} { // that do not compile, so that nothing boots
		b := &built{complaint: pkg + " is wrong"}
		b.once.Do(func() {})
		m.builds.Store(pkg, b)
	}
	m.add(map[string][]string{"p": {"^TestDockerOne$"}, "q": {"^TestX$"}}, nil)
	m.add(map[string][]string{"p": {"^TestDockerTwo$", "^TestX$"}}, nil)
	m.after("p", tell)
	require.Empty(t, found)
	m.after("nothing", tell)
	require.Len(t, found, 1)
	require.Empty(t, found[0].results)
	m.start(t.Context(), 1)
	_, err = m.end()
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Equal(t, "p is wrong", found[1].results[testKey{pkg: "p"}].output)
	m.after("q", tell)
	require.Len(t, found, 3)
	require.Equal(t, "q is wrong", found[2].results[testKey{pkg: "q"}].output)
}

// TestLastOne: a second machine starts when one package is left on the host, which may be from the beginning.
func TestLastOne(t *testing.T) {
	for packages, want := range [][]int{{}, {0}, {1}, {2}} {
		ends, at := 0, []int{}
		ended := lastOne(packages, func() { at = append(at, ends) })
		for ends = 1; ends <= packages; ends++ {
			ended()
		}
		require.Equal(t, want, at, packages)
	}
}
