package ima

import (
	"os"
	"path/filepath"
	"testing"
)

// sharedFile reads a file of the project's testdata, which lies beside the
// checkout (CI) or where CIMA_TESTDATA says. Tests of the repository proper
// do without: those that use it say so in their name.
func sharedFile(t testing.TB, path string) []byte {
	t.Helper()
	dir := os.Getenv("CIMA_TESTDATA")
	if dir == "" {
		dir = "../../shared/testdata"
	}
	if _, err := os.Stat(dir); err != nil && os.Getenv("CIMA_TESTDATA") == "" {
		t.Skip("no shared testdata here: set CIMA_TESTDATA")
	}
	b, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
