package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw"
)

// --check-config reports ok for a file that was read, and for no other; --print-config prints
// what it gives.
func TestCheckConfig(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.toml"), filepath.Join(dir, "bad.toml")
	for path, text := range map[string]string{good: "[limits]\nidle = \"30s\"\n", bad: "[limits]\nidle = \"30\"\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		flag, path string
		code       int
		want       string
	}{
		{"--check-config", good, 0, good + ": ok\n"},
		{"--check-config", bad, exitConfig, `bad.toml:2: [limits]: idle must be a duration above zero in quotes, as "10s" or "1m30s"`},
		{"--check-config", filepath.Join(dir, "mistyped.toml"), exitConfig, "mistyped.toml: no such file or directory\nhint: nothing was checked"},
		{"--print-config", good, 0, "\nidle = \"30s\"  # line 2\n"},
		{"--print-config", bad, exitConfig, "bad.toml:2: "},
		{"--print-config", filepath.Join(dir, "mistyped.toml"), exitConfig, "mistyped.toml: no such file or directory\nhint: "},
	} {
		var out bytes.Buffer
		code := Main(Program{Name: "cimad"}, []string{test.flag, "--config", test.path}, &out, &out)
		if code != test.code || !strings.Contains(out.String(), test.want) {
			t.Errorf("%s: exit %d, %q", test.path, code, &out)
		}
	}
}

// Flags of CIMA 0.5's server are answered with what takes their place.
func TestFormerFlags(t *testing.T) {
	for flag, want := range map[string]string{
		"--sock": "--runtime-dir DIR", "-s": "--runtime-dir DIR", "--policy=x": "cimactl policy convert", "-p": "cimactl policy convert", "--polizy": "--help` lists the flags",
	} {
		var out bytes.Buffer
		if code := Main(Program{Name: "cimad"}, []string{flag, "x"}, &out, &out); code != exitUsage || !strings.Contains(out.String(), "hint: ") || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit %d, %q", flag, code, &out)
		}
	}
}

// Without a TD the daemon ends with an error that names cimactl doctor, and with an exit
// status that keeps systemd from starting it again.
func TestHintWhereThereIsNoTD(t *testing.T) {
	err := fmt.Errorf("start: %w", &hw.Error{Op: hw.OpBootLog, Err: hw.ErrUnsupported})
	if code := exitFor(err); code != exitUnsupported {
		t.Errorf("exit %d", code)
	}
	if code := exitFor(errors.New("something else")); code != exitFailure {
		t.Errorf("of something else: exit %d", code)
	}
	if h := hintFor(err); !strings.Contains(h, "cimactl doctor") {
		t.Errorf("hint %q", h)
	}
	if h := hintFor(errors.New("something else")); h != "" {
		t.Errorf("hint %q", h)
	}
}

// A daemon whose key no service manager stores logs that, and no other error.
func TestKeyWithoutServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var journal bytes.Buffer
	key, err := takeKey(nil, slog.New(slog.NewTextHandler(&journal, nil)))
	if err != nil {
		t.Fatal(err)
	}
	key.memfd.Close()
	if text := journal.String(); !strings.Contains(text, "no service manager stores it") || strings.Contains(text, "error=") {
		t.Errorf("journal %q", text)
	}
}
