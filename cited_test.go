package cima

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// citedText is a text of the tree, or a page of the manual, and what follows.
	citedText = regexp.MustCompile(`\b(?:([\w./-]*[A-Z][A-Z]+\.md)|(cima[\w.-]*)\(([1-9])\))((?:, [A-Z"“][^,;:.()|]*)?(?:, [0-9]+)?)`)

	// citedPath is a file or folder of the tree.
	citedPath = regexp.MustCompile(`(?:^|[\s("'` + "`" + `])((?:daemon|rpc|hw|logs|packaging|systemd|man)/[\w./-]*\w)`)

	// citedName is a file of Go.
	citedName = regexp.MustCompile(`(?:^|[\s(])(\w+\.go)\b`)

	// commentMark begins a line of a comment, or stands round a word in bold.
	commentMark = regexp.MustCompile(`\n\s*(?:#|//[/!]?)|\*\*`)

	// gone are words for texts that are not in the tree, and for packages, which have
	// one other word, and that in ARCHITECTURE.md alone.
	gone = regexp.MustCompile(`\bDESIGN\b|\b[Rr]ules? [0-9]+\b|\bREDESIGN\b|\bMODELS\.md\b|\b[Hh]ouse\b|\brooms\b|\b(?:another|each|every|other|this|which) room\b`)
)

// notOurs are names like ours that stand for something else, each with its reason.
var notOurs = map[string]string{
	"dist/stage/CHANGELOG.md": "made by packaging/build.sh",
}

// What comments and texts cite is in the tree: files, pages of the manual, and their
// sections.
func TestWhatIsCitedExists(t *testing.T) {
	tree := filesOfTree(t)
	seen := 0
	for _, path := range tree {
		for _, c := range remarks(t, path) {
			where := fmt.Sprintf("%s:%d", path, c.line)
			if word := gone.FindString(c.text); word != "" && path != "cited_test.go" && path != "ARCHITECTURE.md" {
				t.Errorf("%s: %q must not stand there: cite what is in the tree, and say package", where, word)
			}
			for _, m := range citedText.FindAllStringSubmatch(c.text, -1) {
				seen++
				if notOurs[m[1]] != "" {
					continue
				}
				if err := checkCited(path, m); err != nil {
					t.Errorf("%s: %v", where, err)
				}
			}
			if !strings.HasSuffix(path, ".go") && (strings.Contains(path, "/") || path == "CHANGELOG.md" || !strings.HasSuffix(path, ".md")) {
				continue // the changelog names what was, and scripts name what they make
			}
			for _, m := range citedPath.FindAllStringSubmatch(c.text, -1) {
				seen++
				if _, err := os.Stat(m[1]); err != nil && notOurs[m[1]] == "" && !isName(tree, m[1]) {
					t.Errorf("%s: %s does not exist", where, m[1])
				}
			}
			for _, m := range citedName.FindAllStringSubmatch(c.text, -1) {
				seen++
				if !slices.ContainsFunc(tree, func(p string) bool { return filepath.Base(p) == m[1] }) && notOurs[m[1]] == "" {
					t.Errorf("%s: there is no %s", where, m[1])
				}
			}
		}
	}
	if seen < 150 {
		t.Errorf("only %d citations were looked at", seen)
	}
}

// filesOfTree are the tree's sources and texts.
func filesOfTree(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && slices.Contains([]string{"testdata", ".cache", ".git", "bin", "dist", "target", "__pycache__"}, e.Name()):
			return filepath.SkipDir
		case slices.Contains([]string{".go", ".md", ".py", ".rs", ".sh", ".toml", ".service", ".socket", ".conf"}, filepath.Ext(path)) || e.Name() == "Makefile":
			files = append(files, filepath.ToSlash(path))
		}
		return nil
	})
	if err != nil || len(files) < 300 {
		t.Fatalf("the tree has %d files: %v", len(files), err)
	}
	return files
}

// A remark is what a file says to readers: a comment, on one line; of texts, a
// paragraph.
type remark struct {
	line int
	text string
}

func remarks(t *testing.T, path string) (found []remark) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(path, ".go") {
		line := 1
		for p := range strings.SplitAfterSeq(string(text), "\n\n") {
			found = append(found, remark{line, strings.Join(strings.Fields(commentMark.ReplaceAllString(p, " ")), " ")})
			line += strings.Count(p, "\n")
		}
		return found
	}
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range f.Comments {
		if !strings.HasPrefix(c.List[0].Text, "//go:") {
			found = append(found, remark{set.Position(c.Pos()).Line, strings.Join(strings.Fields(c.Text()), " ")})
		}
	}
	return found
}

// checkCited checks that a text exists, has a section of this name, and in the section
// a point of this number.
func checkCited(from string, m []string) error {
	var path string
	if m[2] != "" {
		path = "man/" + m[2] + "." + m[3] + ".md"
	} else if path = m[1]; !exists(path) {
		path = filepath.Join(filepath.Dir(from), m[1])
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%s is cited: there must be %s", strings.TrimSuffix(m[0], m[4]), path)
	}
	section, number := "", ""
	for part := range strings.SplitSeq(strings.TrimPrefix(m[4], ", "), ", ") {
		if part != "" && part[0] >= '0' && part[0] <= '9' {
			number = part
		} else {
			section = strings.Trim(part, `"“”`)
		}
	}
	if section == "" {
		return nil
	}
	body, ok := sectionOf(string(text), section)
	if !ok {
		return fmt.Errorf("%s has no section, term or method %q", path, section)
	}
	if number != "" && !strings.Contains(body, "\n"+number+". ") {
		return fmt.Errorf("%s: %q has no point %s", path, section, number)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// sectionOf finds the longest heading, bold term, or line that ends in a colon, that words begin with: what
// follows the name may go on in the sentence.
func sectionOf(text, words string) (body string, ok bool) {
	best := -1
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		name := strings.TrimSpace(strings.TrimLeft(line, "# "))
		if term, bold := strings.CutPrefix(line, "**"); bold {
			name, _, _ = strings.Cut(term, "**")
		} else if !strings.HasPrefix(line, "#") && !strings.HasSuffix(name, ":") {
			continue
		}
		name = strings.TrimRight(name, ".:")
		if rest, is := strings.CutPrefix(words, name); is && len(name) > best && (rest == "" || rest[0] == ' ') {
			best = len(name)
			body, _, _ = strings.Cut(strings.Join(lines[i:], ""), "\n#")
		}
	}
	return body, best >= 0
}

// isName reports whether a path is a package with an exported name behind it
// (logs/canonical.Digest), or a file without its ending.
func isName(tree []string, path string) bool {
	dir, _, named := strings.Cut(path, ".")
	if named && exists(dir) {
		return true
	}
	return slices.ContainsFunc(tree, func(p string) bool { return strings.HasPrefix(p, path+".") })
}
