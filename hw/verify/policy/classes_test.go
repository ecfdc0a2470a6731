package policy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A policy can allow each class that the manual lists, and no other. (A test of daemon/power
// holds the manual against it.)
func TestClassesOfTheManual(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "man", "cima-evidence.7.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n## Classes of power\n")
	table, _, ends := strings.Cut(table, "\n#")
	if !found || !ends {
		t.Fatal("cima-evidence(7) has no classes of power")
	}
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([a-z-]+:?)`).FindAllStringSubmatch(table, -1) {
		listed[row[1]] = true
	}
	delete(listed, "class") // the table's head
	if len(listed) < 10 {
		t.Fatalf("only %v", listed)
	}
	for _, class := range classes {
		if !listed[class] {
			t.Errorf("cima-evidence(7) has no class %s", class)
		}
		delete(listed, class)
	}
	for class := range listed {
		t.Errorf("no policy can allow the class %s", class)
	}
}

func TestAllow(t *testing.T) {
	for class, known := range map[string]bool{
		"privileged": true, "capability:CAP_SYS_ADMIN": true, "unknown:linux.x": true, "device:c:1:*": true,
		"device:*": true, "device:b:*:*": true, "annotation:run.oci.*": true, "mount:other": true,
		"mount:*": false, "host-write:/srv*": false, "capability:CAP_*": false, "device:c:1*": false, "annotation:*": false, "namespace:?id": false, "*": false,
		"capability": false, "capability:": false, "privileged:x": false, "priviledged": false, "capability:CAP_NET_ADMIN, namespace:pid": false, "host-read:/a,b,privileged": false, "host-read:/a, b": true,
		"": false, ":": false, "Privileged": false,
	} {
		p, err := Parse("p", []byte("cima_policy = 2\n[power]\nallow = [\""+class+"\"]\n"))
		if (err == nil) != known || err != nil && !strings.Contains(err.Error(), "allow: ") {
			t.Errorf("%q: %v", class, err)
		}
		if err == nil && (len(p.JudgePower([]string{class})) != 0 || len(p.JudgePower([]string{"other", class, "descriptor"})) != 2) {
			t.Errorf("%q: %q", class, p.JudgePower([]string{class, "other"}))
		}
	}
	if p := (&Policy{power: []string{"other"}}); len(p.JudgePower([]string{"other"})) != 1 {
		t.Error("a class that nobody knows is allowed")
	}
}

// A kind allows all that begins with it, and nothing else; a class has one spelling.
func TestAllowKinds(t *testing.T) {
	p := parse(t, "cima_policy = 2\n[power]\nallow = [\"privileged\"]\nallow_kinds = [\"mount\", \"device\"]\n")
	for class, allowed := range map[string]bool{
		"mount:proc": true, "mount:ext4": true, "device:*": true, "device:c:1:3": true, "privileged": true,
		"mount-option": false, "mount": false, "mount:": false, "host-write:/tmp": false, "unseen-start": false, "mounts:x": false, "": false,
	} {
		if got := len(p.JudgePower([]string{class})) == 0; got != allowed {
			t.Errorf("%q allowed %v", class, got)
		}
	}
	for _, kind := range []string{"mount:", "mount:proc", "privileged", "unseen-start", "*", "", "mounts"} {
		if _, err := Parse("p", []byte("cima_policy = 2\n[power]\nallow_kinds = [\""+kind+"\"]\n")); err == nil || !strings.Contains(err.Error(), "allow_kinds: ") {
			t.Errorf("%q: %v", kind, err)
		}
	}
}
