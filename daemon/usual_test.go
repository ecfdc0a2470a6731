package daemon

import (
	"os"
	"strings"
	"testing"
)

// The lines that newcomers begin with have, by docker and by podman, the classes that the
// manual's table says.
func TestUsualLines(t *testing.T) {
	s := newScene(t)
	if err := os.MkdirAll("/srv/db", 0o755); err != nil {
		t.Fatal(err)
	}
	rows := usualLines(t)
	if len(rows) < 11 {
		t.Fatalf("%d lines are in cimad(8)", len(rows))
	}
	for _, name := range []string{"docker", "podman"} {
		t.Run(name, func(t *testing.T) { // containers stay until the last line: one has the network of another
			for _, row := range rows {
				line := strings.Replace(row.line, "docker run", name+" run -d -i", 1)
				line = strings.Replace(line, "IMAGE", map[string]string{"docker": testImage, "podman": podmanImage}[name], 1)
				r, err := s.run(t, line+" /cimactl evidence --nonce -")
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s: %q", row.line, r.classes)
				if name == "podman" && strings.Contains(line, " --network container:") {
					row.classes = "joined:network" // of one without a network: podman notes that in its database alone
				}
				r.wantClasses(t, row.classes)
			}
		})
	}
}

// usual is a row of the manual's table.
type usual struct{ line, classes string }

func usualLines(t *testing.T) (rows []usual) {
	t.Helper()
	text, err := os.ReadFile("../man/cimad.8.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Usual lines\n")
	if !ok {
		t.Fatal("cimad(8) has no section Usual lines")
	}
	section, _, _ = strings.Cut(section, "\n#")
	for l := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(l), "|"), "|")
		if len(cells) != 4 || !strings.Contains(cells[1], "docker run") {
			continue
		}
		classes := strings.TrimSpace(cells[2])
		if classes == "none" {
			classes = ""
		}
		rows = append(rows, usual{strings.Trim(strings.TrimSpace(cells[1]), "`"), classes})
	}
	return rows
}
