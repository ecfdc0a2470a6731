package oslog

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/ima"
)

// A name with line feeds is shown as its digest, because readers may split it
// differently.
func TestNamesOfManyLinesAreDigests(t *testing.T) {
	for name, shown := range map[string]bool{"/bin/plain": true, "/bin/two\nlines": false} {
		part := func(b []byte, text string) []byte {
			return append(binary.LittleEndian.AppendUint32(b, uint32(len(text))), text...)
		}
		var data []byte
		for _, field := range []string{"/bin/sh\x00", "/docker/x\x00", "sha384:\x00" + strings.Repeat("d", 48), name + "\x00"} {
			data = part(data, field)
		}
		digest := sha512.Sum384(data)
		record := part(append([]byte{2, 0, 0, 0}, digest[:]...), "ima-cgpath") // the kernel's binary form
		e, err := ima.NewReader(bytes.NewReader(part(record, string(data)))).Next()
		if err != nil {
			t.Fatal(err)
		}
		o := newLog(hw.Digest{}, true)
		o.add(e)
		if len(o.entries) != 1 || (o.entries[0].line != "") != shown || o.entries[0].digest != hw.Digest(digest) {
			t.Errorf("%q: %+v", name, o.entries)
		}
	}
}

// All callers see the kernel's first entry, because it shows verifiers where
// the boot ended. A later file of that name belongs to its container alone.
func TestFirstEntryIsShown(t *testing.T) {
	l := newLog(hw.Digest{}, false)
	for _, cgroup := range []string{"/", "/docker/" + strings.Repeat("ab", 32)} {
		line := "10 " + strings.Repeat("01", 48) + " ima-cgpath /bin/sh " + cgroup + " sha384:" + strings.Repeat("cd", 48) + " boot_aggregate\n"
		e, err := ima.NewReader(strings.NewReader(line)).Next()
		if err != nil {
			t.Fatal(err)
		}
		l.add(e)
	}
	if len(l.entries) != 2 {
		t.Fatalf("%d entries", len(l.entries))
	}
	for i, want := range []bool{true, false} {
		if got := l.entries[i].shownTo("/docker/"+strings.Repeat("cd", 32), false); got != want {
			t.Errorf("entry %d is shown: %v", i, got)
		}
	}
}

func TestOwnCgroups(t *testing.T) {
	a, b := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	for _, tt := range []struct {
		path, declared string
		want           bool
	}{
		{"/docker/" + a, "/docker/" + a, true},
		{"/docker/" + a + "/x", "/docker/" + a, true},
		{"/docker/" + a + "x", "/docker/" + a, false},
		{"/docker/" + a + "/docker-" + b + ".scope", "/docker/" + a, false},
		{"/docker/" + a + "/y/" + b, "/docker/" + a, false},
		{"/docker/" + b, "/docker/" + a, false},
		{"/a_b/" + a, "/a b/" + a, true},
		{"", "", false}, {"/docker/" + a, "", false}, {"", "/docker/" + a, false},
	} {
		if got := isOwn(tt.path, tt.declared); got != tt.want {
			t.Errorf("%q of %q: %v", tt.path, tt.declared, got)
		}
	}
}
