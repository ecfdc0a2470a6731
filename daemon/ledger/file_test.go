package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

func TestAnotherBootIsNotContinued(t *testing.T) {
	dir, r := t.TempDir(), &register{}
	l := open(t, dir, r)
	must(t, l, public(logs.OpStart))
	l.Close()
	next := openWith(t, Options{Dir: dir, BootID: "another", Register: &register{}})
	must(t, next, public(logs.OpStart))
	if _, err := os.Stat(filepath.Join(dir, FileName+".old")); err != nil {
		t.Fatal("the old log was not set aside:", err)
	}
}

func TestOneDaemonOnly(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, &register{})
	_, err := Open(t.Context(), Options{Dir: dir, BootID: "boot", Anchor: logs.AnchorRTMR3, Register: &register{}})
	if err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Fatalf("second open: %v", err)
	}
}

func TestChangedFileIsFound(t *testing.T) {
	dir, r := t.TempDir(), &register{}
	l := open(t, dir, r)
	must(t, l, public(logs.OpStart), launch("a", "1"), launch("b", "1"))
	l.Close()
	path := filepath.Join(dir, FileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	without := bytes.Join(append(lines[:2:2], lines[3:]...), nil)
	if err := os.WriteFile(path, without, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: dir, BootID: "boot", Anchor: logs.AnchorRTMR3, Register: r}); err == nil {
		t.Fatal("a log with an event taken out was opened")
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root to mount a small file system")
	}
	dir, r := t.TempDir(), &register{}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skipf("left out: mount a small file system: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	l := open(t, dir, r)
	full := false
	for i := range 200 {
		if _, err := l.Append(t.Context(), launch(fmt.Sprint("c", i), "1")); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			full = true
			break
		}
	}
	s, err := l.Snapshot("")
	if !full || err != nil || s.Register != r.value {
		t.Fatalf("full=%v, %v, agree=%v", full, err, s.Register == r.value)
	}
	l.Close()
	if again, err := open(t, dir, r).Snapshot(""); err != nil || again.Count != s.Count {
		t.Fatalf("after a restart %d events of %d, %v", again.Count, s.Count, err)
	}
}

// writeAhead leaves a record whose extend was never made.
func writeAhead(t *testing.T, dir string, before hw.Digest) {
	t.Helper()
	e, err := newEvent(extend("c0", "never attested"))
	if err != nil {
		t.Fatal(err)
	}
	r := diskRecord{Before: before, After: before.Extend(e.Digest()), Event: e.Bytes()}
	line, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, FileName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(line); err != nil {
		t.Fatal(err)
	}
}
