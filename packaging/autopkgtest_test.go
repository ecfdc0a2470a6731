package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The autopkgtest of the installed units passes where all is well, and fails for each thing
// that can be wrong. simulated-td is tried on broken programs by make proof-debian.
func TestAutopkgtestCanFail(t *testing.T) {
	if _, err := os.Stat("/dev/tdx_guest"); err == nil {
		t.Skip("left out: this machine is a TD")
	}
	const (
		cimad = `[ "$1" = --check-config ]`
		stat  = `case $3 in */cima) echo 755 ;; *) echo 700 ;; esac`
	)
	// A machine that is no TD: enabled, started without a failure, and not active.
	const systemctl = `case $1 in is-enabled) echo enabled ;; start) ;; *) exit 3 ;; esac`
	for what, fake := range map[string]map[string]string{
		"":                               {},
		"a wrong configuration":          {"cimad": "exit 6"},
		"no cimad":                       {"cimad": "exit 127"},
		"units that are not enabled":     {"systemctl": `case $1 in is-enabled) echo disabled; exit 1 ;; start) ;; *) exit 3 ;; esac`},
		"a unit that can't be started":   {"systemctl": `case $1 in is-enabled) echo enabled ;; start) exit 5 ;; *) exit 3 ;; esac`},
		"a unit that failed":             {"systemctl": `case $1 in is-enabled) echo enabled ;; is-failed) exit 0 ;; start) ;; *) exit 3 ;; esac`},
		"a unit that runs":               {"systemctl": `case $1 in is-enabled) echo enabled ;; is-failed) exit 1 ;; esac`},
		"a directory that all can write": {"stat": `echo 777`},
	} {
		bin := t.TempDir()
		for name, script := range map[string]string{"cimad": cimad, "systemctl": systemctl, "stat": stat} {
			if other := fake[name]; other != "" {
				script = other
			}
			path := filepath.Join(bin, name)
			put(t, path, []byte("#!/bin/sh\n"+script+"\n"))
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		c := exec.Command("sh", "debian/tests/no-td")
		c.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		if out, err := c.CombinedOutput(); (err == nil) != (what == "") {
			t.Errorf("no-td with %q: %v %s", what, err, out)
		}
	}
}
