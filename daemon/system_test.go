package daemon

import (
	"crypto/sha512"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/logs"
)

// A service is measured by the bytes that run, not by what its path holds by
// now, and again when it is started anew with other bytes or arguments.
func TestSystemServices(t *testing.T) {
	f := newFixture(t)
	program := filepath.Join(f.dir, "service")
	copyFile(t, "/bin/sleep", program)
	s := newSystem(f.daemon, func() []config.SystemRule { return []config.SystemRule{{Path: program, Arguments: true}} })
	start := func(args ...string) {
		c := exec.Command(program, args...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	}
	look := func() (found []systemEvent) {
		t.Helper()
		if err := s.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, e := range f.events() {
			if e.Operation == logs.OpSystem {
				found = append(found, decode[systemEvent](t, e.Body()))
			}
		}
		return found
	}
	start("1000")
	want := fileDigest(t, program)
	if err := os.Remove(program); err != nil { // the bytes run on
		t.Fatal(err)
	}
	got := look()
	if len(got) != 1 || got[0].Path != program || got[0].SHA384 != want || len(got[0].Argv) != 2 || got[0].Argv[1] != "1000" {
		t.Fatalf("events %+v", got)
	}
	if again := look(); len(again) != 1 {
		t.Errorf("said twice: %+v", again)
	}
	copyFile(t, "/bin/sleep", program)
	start("2000")
	if more := look(); len(more) != 2 || more[1].Argv[1] != "2000" {
		t.Errorf("after another start: %+v", more)
	}
	bundle, err := f.evidence()
	if err != nil {
		t.Fatal(err)
	}
	f.wantAuthentic(bundle)
	if n := countEvents(t, bundle, logs.OpSystem); n != 2 {
		t.Errorf("evidence shows %d system events", n)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

func fileDigest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha512.New384()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestSystemRules(t *testing.T) {
	for text, want := range map[string]string{
		"[[system]]\nunit = \"ssh.service\"\n":                  "",
		"[[system]]\npath = \"/usr/bin/dockerd\"\n":             "",
		"[[system]]\narguments = true\n":                        "names a unit or a path",
		"[[system]]\nunit = \"a\"\npath = \"/b\"\n":             "names a unit or a path",
		"[[system]]\npath = \"usr/bin/x\"\n":                    "absolute",
		"[[system]]\nunit = \"[\"\n":                            "syntax error",
		"[ima]\nmode = \"x\"\n":                                 "ima.mode",
		"isolation = \"x\"\n":                                   "isolation",
		"[limits]\nrequests_per_second = 0.0\n":                 "above zero",
		"[[access]]\nunit = \"x\"\nallow = [\"GetStatus\"]\n":   "no method",
		"[[access]]\nunit = \"x\"\nallow = [\"WhoAmI\"]\nx=1\n": "unknown key",
	} {
		_, err := config.Parse(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
