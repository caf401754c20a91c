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
	failing := func(output string) result { return result{outcome: failed, output: output} }
	still := failing("=== RUN   TestA/y\numl: nothing was written for 6m0s; what it was doing:\n")
	assert.True(t, of(map[string]result{
		"TestA/y": still, "TestA": failing("=== RUN   TestA\n" + noVerdict), "TestB": {outcome: passed}, "": failing("exit status 1"),
	}))
	assert.True(t, of(map[string]result{"TestA": failing("uml: time limit of 16m0s reached; what it was doing:\n")}))
	assert.True(t, of(map[string]result{"TestA": failing("uml: the machine ended without a result (exit status 1); end of the console:\n")}))
	assert.False(t, of(map[string]result{"TestA": {outcome: passed}}))
	assert.False(t, of(map[string]result{"TestA": still, "TestB": failing("--- FAIL: TestB (0.00s)\n")}), "what has failed has failed")
	assert.False(t, of(map[string]result{"TestA": failing("panic: test timed out after 15m0s\n" + noVerdict)}))
	assert.False(t, of(map[string]result{"TestA": failing("--- FAIL: TestA (0.00s)\n")}))
}
