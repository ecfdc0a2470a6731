package oslog

import (
	"crypto/sha512"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Anchoring becomes rarer, because any process can cause new entries.
func TestIMAIsAnchoredEverLessOften(t *testing.T) {
	events, year := 0, 365*24*time.Hour
	for at := time.Duration(0); at < year; events++ {
		at += interval(time.Minute, events)
	}
	if events > 2000 {
		t.Errorf("%d events in a year", events)
	}
	if interval(time.Minute, 0) != time.Minute || interval(48*time.Hour, 1<<40) != 48*time.Hour || interval(time.Minute, 1<<40) != maxInterval {
		t.Error("intervals")
	}
	t.Logf("%d events in a year", events)
}

// Each entry of the IMA log is anchored once.
func TestIMAIsAnchored(t *testing.T) {
	dir := t.TempDir()
	const entry = "10 91f34b5c671d73504b274a919661cf80dab1e127 ima-ng sha1:1801e1be3e65ef1eaa5c16617bec8f1274eaf6b3 boot_aggregate\n"
	write := func(lines int) {
		for name, text := range map[string]string{
			"binary_runtime_measurements": strings.Repeat(entry, lines), // the reader accepts either form
			"runtime_measurements_count":  fmt.Sprintln(lines),
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(2)
	m, err := openAnchor(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.tail.Close()
	e, some, err := m.next()
	if err != nil || !some || e.From != 0 || e.Count != 2 || e.SHA384 != sha512.Sum384([]byte(entry+entry)) {
		t.Fatalf("%+v %v %v", e, some, err)
	}
	m.done()
	if _, some, err := m.next(); some || err != nil {
		t.Errorf("nothing is new: %v %v", some, err)
	}
	write(3)
	e, some, err = m.next()
	if err != nil || !some || e.From != 2 || e.Count != 1 || e.SHA384 != sha512.Sum384([]byte(entry)) {
		t.Fatalf("%+v %v %v", e, some, err)
	}
}
