package ima

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var testdata = flag.String("testdata", "", "`DIR` of the project's testdata; ../shared/testdata of the checkout without it")

// sharedFile reads a file of the project's testdata, which is no part of the
// repository. Tests that use it say so in their name.
func sharedFile(t testing.TB, path string) []byte {
	t.Helper()
	dir := *testdata
	if dir == "" {
		dir = "../../../shared/testdata"
	}
	if _, err := os.Stat(dir); err != nil && *testdata == "" {
		t.Skip("left out: no shared testdata here: -args -testdata DIR")
	}
	b, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
