package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMachineStopped(t *testing.T) {
	of := func(results map[string]result) bool {
		one := newTier(umlTier)
		for test, r := range results {
			one.results[testKey{pkg: "p", test: test}] = r
		}
		return machineStopped(one)
	}
	still := result{outcome: failed, output: "=== RUN TestA\n" + noVerdict}
	assert.True(t, of(map[string]result{"TestA": still, "TestB": {outcome: passed}, "": {outcome: failed, output: "signal: killed"}}))
	assert.False(t, of(map[string]result{"TestA": {outcome: passed}}))
	assert.False(t, of(map[string]result{"TestA": still, "TestB": {outcome: failed, output: "--- FAIL"}}), "what has failed has failed")
	assert.False(t, of(map[string]result{"TestA": {outcome: failed, output: "panic: test timed out after 15m0s\n" + noVerdict}}))
}
