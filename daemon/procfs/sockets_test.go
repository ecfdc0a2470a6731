package procfs

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSocketPaths(t *testing.T) {
	dir := t.TempDir()
	listening, err := net.Listen("unix", filepath.Join(dir, "a socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer listening.Close()
	datagrams, err := net.ListenPacket("unixgram", filepath.Join(dir, "datagrams"))
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	var all []string
	if err := SocketPaths("/proc/thread-self", func(name string) { all = append(all, name) }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a socket", "datagrams"} {
		if !slices.Contains(all, filepath.Join(dir, want)) {
			t.Errorf("%q lacks %s", all, want)
		}
	}
	if err := SocketPaths("/proc/0", nil); err == nil {
		t.Error("no error of a process that isn't there")
	}
}

func TestSocketPathsText(t *testing.T) {
	const head = "Num       RefCount Protocol Flags    Type St Inode Path\n"
	for name, test := range map[string]struct {
		text, want string
	}{
		"nothing":        {"", ""},
		"no socket":      {head, ""},
		"several":        {head + "00: 00000002 00000000 00010000 0001 01 20516 /a b\n00: 00000002 00000000 00010000 0001 01     7 /c\n", "/a b,/c"},
		"without a path": {head + "00: 00000002 00000000 00010000 0001 01 20516\n", ""},
		"abstract":       {head + "00: 00000002 00000000 00010000 0001 01 20516 @/x\n", ""},
		"relative":       {head + "00: 00000002 00000000 00010000 0001 01 20516 x/y\n", ""},
		"a path's rest":  {head + "00: 00000002 00000000 00010000 0001 01 20516 /a\n/b\n", "/a"},
	} {
		var all []string
		if err := socketPaths(strings.NewReader(test.text), func(name string) { all = append(all, name) }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(all, ","); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	for name, text := range map[string]string{"a line without an end": head + "00:", "a long line": head + strings.Repeat("x", maxSocketLine+1)} {
		if err := socketPaths(strings.NewReader(text), func(string) {}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzSocketPaths(f *testing.F) {
	f.Add("Num\n00: 00000002 00000000 00010000 0001 01 20516 /a\n")
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		socketPaths(strings.NewReader(text), func(name string) {
			if n += len(name); name[0] != '/' || strings.Contains(name, "\n") || n > len(text) {
				t.Errorf("%q", name)
			}
		})
	})
}
