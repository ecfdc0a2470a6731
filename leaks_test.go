package cima

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Where tests or what they test start goroutines, goleak sees that none is left.
func TestGoroutinesAreLookedFor(t *testing.T) {
	starts := regexp.MustCompile(`(?m)^\s*go (func|\w+\()|\.Go\(|time\.AfterFunc\(`)
	begins, tested, looks := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") {
			if err == nil && e.IsDir() && (e.Name() == "testdata" || e.Name() == ".cache" || e.Name() == ".git") {
				return filepath.SkipDir
			}
			return err
		}
		text, err := os.ReadFile(path)
		dir := filepath.Dir(path)
		begins[dir] = begins[dir] || starts.Match(text)
		if strings.HasSuffix(path, "_test.go") {
			tested[dir] = true
			looks[dir] = looks[dir] || strings.Contains(string(text), "goleak.VerifyTestMain(m") || strings.Contains(string(text), "goleak.Find(")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for dir := range begins {
		switch {
		case !begins[dir] || !tested[dir] || dir == ".":
		case looks[dir]:
			looked++
		default:
			t.Errorf("%s starts goroutines, and its tests have no goleak in TestMain", dir)
		}
	}
	if looked < 10 {
		t.Errorf("only %d packages look for goroutines", looked)
	}
}
