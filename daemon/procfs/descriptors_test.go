package procfs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDescriptors(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	path, err := unix.Open("/proc", unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(path)
	mount, err := mountID(path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Descriptors("/proc/self", 4096)
	if err != nil {
		t.Fatal(err)
	}
	find := func(n int) Descriptor {
		i := slices.IndexFunc(all, func(d Descriptor) bool { return d.Number == n })
		if i < 0 {
			t.Fatalf("descriptor %d is not listed", n)
		}
		return all[i]
	}
	if d := find(pipe[0]); d.Inherited || !strings.HasPrefix(d.Link, "pipe:[") {
		t.Errorf("a pipe: %+v", d)
	}
	if d := find(path); !d.Inherited || d.Link != "/proc" || d.Mount != mount {
		t.Errorf("an inherited path: %+v, mount %d", d, mount)
	}
	if _, err := Descriptors("/proc/self", len(all)-2); !errors.Is(err, ErrTooMany) {
		t.Errorf("more than the limit: %v", err)
	}
}

// As the kernel of an epoll instance and of an eventfd wrote it.
func TestParseDescriptor(t *testing.T) {
	for text, want := range map[string]Descriptor{
		"pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\ntfd:        8 events:       19 data:           c8c038  pos:0 ino:119946c sdev:f\n": {Mount: 17, Writable: true},
		"pos:\t0\nflags:\t012000000\nmnt_id:\t27\n":                 {Mount: 27},
		"pos:\t0\nflags:\t0100000\nmnt_id:\t27\nflags:\t02000000\n": {Mount: 27, Inherited: true},
		"pos:\t0\nflags:\t02100001\nmnt_id:\t27\n":                  {Mount: 27, Writable: true},
		"pos:\t0\nflags:\t0100002\nmnt_id:\t27\n":                   {Mount: 27, Inherited: true, Writable: true},
	} {
		if got, err := parseDescriptor(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "flags:\t0\n", "mnt_id:\t1\n", "flags:\t9\nmnt_id:\t1\n", "flags:\t0\nmnt_id:\t-1\n"} {
		if got, err := parseDescriptor(text); err == nil {
			t.Errorf("taken: %q: %+v", text, got)
		}
	}
}

func FuzzParseDescriptor(f *testing.F) {
	f.Add("pos:\t0\nflags:\t02000002\nmnt_id:\t17\n")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseDescriptor(text); err == nil && !strings.Contains(text, fmt.Sprint(d.Mount)) && !strings.Contains(text, "mnt_id:") {
			t.Errorf("%q: %+v", text, d)
		}
	})
}

func TestCapabilities(t *testing.T) {
	own, err := Capabilities("/proc/self")
	if err != nil || os.Getuid() == 0 && own == 0 {
		t.Errorf("%x, %v", own, err)
	}
	const text = "Name:\tx\nCapInh:\t0000000000000001\nCapPrm:\t0000000000000002\nCapEff:\t0000000000000004\nCapBnd:\t0000000000000008\nCapAmb:\t0000000000000010\n"
	if got, err := parseCapabilities(text); err != nil || got != 0x1f {
		t.Errorf("%x, %v", got, err)
	}
	for _, gone := range []string{"CapInh", "CapAmb"} {
		if _, err := parseCapabilities(strings.Replace(text, gone, "Other", 1)); err == nil {
			t.Errorf("taken without %s", gone)
		}
	}
	if _, err := parseCapabilities(strings.Replace(text, "0001", "x", 1)); err == nil {
		t.Error("taken: no number")
	}
}
