package policy

import (
	"crypto/sha512"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/cima-project/cima/logs/boot"
)

// TestWordsMustBeProved: data that no digest covers prove nothing.
func TestWordsMustBeProved(t *testing.T) {
	p := BootPattern{RTMR: 2, Words: []string{"roothash=abcd"}}
	only := p
	only.OnlyWords = true
	for name, c := range map[string]struct {
		hashed, data string
		fits         bool
	}{
		"covered":          {"roothash=abcd", "roothash=abcd", true},
		"with its NUL":     {"roothash=abcd\x00", "roothash=abcd\x00", true},
		"without its NUL":  {"roothash=abcd", "roothash=abcd\x00", true},
		"labelled":         {"x roothash=abcd", "kernel_cmdline: x roothash=abcd\x00", true},
		"labelled by word": {"x roothash=abcd", "grub_kernel_cmdline x roothash=abcd", true},
		"wide":             {string(wide("x roothash=abcd y")), string(wide("x roothash=abcd y")), true},
		"not covered":      {"roothash=ffff", "roothash=abcd", false},
		"in the label":     {"x", "roothash=abcd: x", false},
		"no word":          {"xroothash=abcd", "xroothash=abcd", false},
		"another space":    {"x\u2003roothash=abcd", "x\u2003roothash=abcd", false},
		// for the EFI stub, which reads UTF-16, this begins with six foreign
		// characters
		"mixed":          {"roothash=abcd " + string(wide(" init=/evil")), "roothash=abcd " + string(wide(" init=/evil")), false},
		"behind its NUL": {"x\x00 roothash=abcd", "x\x00 roothash=abcd", false},
		"behind, wide":   {string(wide("x\x00 roothash=abcd")), string(wide("x\x00 roothash=abcd")), false},
	} {
		e := boot.Event{MR: 3, Type: boot.EvIPL, Digest: sha512.Sum384([]byte(c.hashed)), Data: []byte(c.data)}
		if got := p.fits(&e); got != c.fits {
			t.Errorf("%s: %v", name, got)
		}
		if got := only.fits(&e); got != (c.fits && !strings.Contains(c.hashed, "x")) {
			t.Errorf("%s, and no other: %v", name, got)
		}
	}
}

// TestRealCommandLine: a command line that grub measured on a real machine is
// proved.
func TestRealCommandLine(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tdx-guest").Output()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "testing/testdata/ccel/ccel_data.dat"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := boot.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	p := BootPattern{RTMR: 2, Type: "EV_IPL", Words: []string{"init=/usr/lib/systemd/systemd", "rootwait"}}
	for _, e := range log.UnverifiedEvents() {
		if strings.HasPrefix(e.Detail(), "kernel_cmdline: ") && p.fits(&e) {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d command lines found", found)
	}
}

func TestBootPatternsAreChecked(t *testing.T) {
	d := `"` + strings.Repeat("ab", 48) + `"`
	head := "[[boot]]\nmrtd=" + d + "\nrtmr0=" + d + "\nrtmr1=" + d + "\n"
	for text, fine := range map[string]bool{
		"[[boot.events]]\nrtmr=2\ntext=\"x\"":                                 true,
		"[[boot.events]]\nrtmr=2\nwords=[\"roothash=x\"]":                     true,
		"[[boot.events]]\nrtmr=2\ntype=\"EV_IPL\"":                            false, // no digest covers it
		"[[boot.events]]\nrtmr=2\ntype=\"EV_IPL\"\nany=true":                  false,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=2\ntype=\"EV_IPL\"\nany=true": true,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=2\ntext=\"x\"\nany=true":      false,
		"[[boot.events]]\nrtmr=2\nwords=[\"ro\"]\nonly_words=true":            true,
		"[[boot.events]]\nrtmr=2\ntype=\"EV_IPL\"\nonly_words=true":           false,
		"[[boot.events]]\nrtmr=2\ntext=\"x\"\noptional=true":                  false,
		"[[boot.events]]\nrtmr=1\ntext=\"x\"":                                 false,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=3\ntext=\"x\"":                false,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=2":                            false,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=2\nwords=[\"a b\"]":           false,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=2\nkernel=\"x\"":              false,
		"rtmr2=" + d + "\nos_log=true":                                        true,
		"rtmr2=" + d + "\n[container.launch]\ncapabilities=[\"net_raw\"]":     false,
		"rtmr2=" + d + "\n[container.launch]\ncapabilities=[]":                true,
		"rtmr2=" + d + "\n[[container.launch.mounts]]\ntype=\"bind\"":         false,
		"rtmr2=" + d + "\n[container.launch]\nargument=[]":                    false,
	} {
		if _, err := Parse([]byte(head + text)); (err == nil) != fine {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func wide(text string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, 0, 0)
}
