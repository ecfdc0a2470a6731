// Package logstest answers: what do the tests of all logs need?
package logstest

import (
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

var testdata = flag.String("testdata", "", "`DIR` of the project's testdata; ../shared/testdata of the checkout without it")

// SharedFile reads a file of the project's testdata, which is not part of the
// repository. Tests that use it say so in their name. The test's package must be
// two folders below the root.
func SharedFile(t testing.TB, path string) []byte {
	t.Helper()
	dir := *testdata
	if dir == "" {
		dir = "../../../shared/testdata"
	}
	if _, err := os.Stat(dir); err != nil && *testdata == "" {
		t.Skip("left out: no shared testdata: -args -testdata DIR")
	}
	b, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Bounded fails the test if f allocates more than four times the size of its input
// and a fixed amount.
func Bounded(t testing.TB, input int, f func()) {
	t.Helper()
	const fixed = 64 << 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(4*input+fixed) {
		t.Errorf("%d bytes allocated for an input of %d", used, input)
	}
}
