package cima

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ownMessages are the daemon's messages that name no payer: what causes them, and why no
// caller's share is needed. Together they have the bound of their place in the code
// (daemon/journal), so a caller that finds a way to cause one keeps others from seeing it.
// A message that a container can cause belongs to the container: give it the attribute
// "container", with the owner's name.
var ownMessages = map[string]string{
	"RTMR2 holds more than the boot log explains: evidence won't replay to it": "once, at the start",
	"a gap could not be logged": "of what several containers did; the log is full or the hardware fails",
	"a mark on a container's root file system stays until it is unmounted":                     "of the gate's own marks",
	"a method value in daemon/containers/gate.go":                                              "once, at the start: why there is no gate",
	"a quote was still in progress":                                                            "once, at the end",
	"a runtime was not measured":                                                               "the container is not known",
	"configuration reloaded":                                                                   "by the administrator",
	"containers that are there already can't be listed":                                        "records of root's can't be read",
	"containers that run already can't be listed":                                              "once, at the start",
	"executions are not measured":                                                              "once, at the start",
	"host service measured":                                                                    "a service that the configuration names",
	"host services are not measured":                                                           "once",
	"no evidence can be given yet: the register does not answer":                               "once, at the start",
	"not root: containers can't be distinguished and are refused; host processes are answered": "once, at the start",
	"ready":                      "once, at the start",
	"records can't be listed":    "records of root's can't be read",
	"runtimes were not measured": "the containers are not known",
	"something other than IMA extends RTMR2 after the boot: evidence won't replay to it": "once, at the start",
	"starts of containers are noticed late: their records can't be watched":              "once, at the start",
	"stopped":                                             "once, at the end",
	"the IMA log can't be followed":                       "once an interval",
	"the IMA log can't be read":                           "once, at the start, or once an interval",
	"the IMA log's executions are not logged yet":         "once for each look at the log",
	"the agent key won't survive a restart of the daemon": "once, at the start",
	"the agent key won't survive a restart of the daemon: no service manager stores it": "once, at the start",
	"the configuration was not taken; the old one stays in force":                       "by the administrator",
	"the daemon's start is not in the log":                                              "once",
	"the daemon's start is not in the log yet":                                          "once a second, while the hardware fails",
	"the gate stands": "once, at the start",
	"the kernel extends RTMR2 for IMA: its log is a part of evidence":                                             "once, at the start",
	"the kernel's IMA log takes more than half of its share of evidence; raise limits.evidence_reply and restart": "once",
	"the log is not closed":                                 "once, at the end",
	"the service manager was not notified":                  "of the service manager's own socket",
	"the stored agent key can't be used; making a new one":  "once, at the start",
	"whether the kernel extends RTMR2 for IMA is not known": "once, at the start",
}

// Each message of the daemon passes daemon/journal, and names who pays for it or is
// listed here as the daemon's own.
func TestMessagesHavePayers(t *testing.T) {
	own := make(map[string]string) // by message: where it is
	seen := 0
	for _, dir := range packagesOfTheDaemon(t) {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			called := make(map[ast.Expr]bool)
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					called[n.Fun] = true
					if makesLogger(n.Fun) && path != "daemon/log.go" && !discards(n) {
						t.Errorf("%s: a logger that daemon/journal doesn't bound: take the one in the options", set.Position(n.Pos()))
					}
					if writesMessage(n.Fun) {
						seen++
						if message, paid := payerOfMessage(n); !paid {
							own[message] = set.Position(n.Pos()).String()
						}
					}
				case *ast.SelectorExpr:
					if writesMessage(n) && !called[n] {
						own["a method value in "+path] = set.Position(n.Pos()).String()
					}
				case *ast.ImportSpec:
					if n.Path.Value == `"log"` {
						t.Errorf("%s imports log, which daemon/journal doesn't bound", path)
					}
				}
				return true
			})
		}
	}
	if seen < 40 {
		t.Errorf("only %d messages were found: was the logger renamed?", seen)
	}
	for _, message := range slices.Sorted(maps.Keys(own)) {
		if ownMessages[message] == "" {
			t.Errorf("%s: %q names no payer", own[message], message)
		}
	}
	for message := range ownMessages {
		if own[message] == "" {
			t.Errorf("%q is listed, and nowhere in the tree", message)
		}
	}
}

// packagesOfTheDaemon are the folders of what cimad links.
func packagesOfTheDaemon(t *testing.T) (dirs []string) {
	t.Helper()
	for _, p := range list(t) {
		if dir := strings.TrimPrefix(p.ImportPath, module); dir == "daemon/cimad" {
			for _, d := range append(p.Deps, p.ImportPath) {
				if dir, ours := strings.CutPrefix(d, module); ours {
					dirs = append(dirs, dir)
				}
			}
		}
	}
	return dirs
}

// makesLogger reports whether a function makes a logger, or is one of slog's own.
func makesLogger(f ast.Expr) bool {
	s, ok := f.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == "slog" && slices.Contains([]string{"New", "Default", "SetDefault", "Info", "Warn", "Error", "Log", "LogAttrs",
		"InfoContext", "WarnContext", "ErrorContext"}, s.Sel.Name)
}

// discards reports whether what is made is a logger that writes nothing.
func discards(call *ast.CallExpr) bool {
	s, ok := call.Args[0].(*ast.SelectorExpr)
	return ok && s.Sel.Name == "DiscardHandler"
}

// writesMessage reports whether an expression is a method of a logger that writes to
// the journal without --debug.
func writesMessage(f ast.Expr) bool {
	s, ok := f.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Info", "Warn", "Error", "Log", "LogAttrs", "InfoContext", "WarnContext", "ErrorContext"}, s.Sel.Name) {
		return false
	}
	switch x := s.X.(type) {
	case *ast.Ident:
		return strings.EqualFold(x.Name, "log")
	case *ast.SelectorExpr:
		return strings.EqualFold(x.Sel.Name, "log")
	}
	return false
}

// payerOfMessage returns a call's message, and whether its arguments name a payer.
func payerOfMessage(call *ast.CallExpr) (message string, paid bool) {
	for _, arg := range call.Args {
		ast.Inspect(arg, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			switch text, _ := strconv.Unquote(literal.Value); {
			case message == "":
				message = text
			case text == "container" || text == "caller":
				paid = true
			}
			return true
		})
	}
	return message, paid
}
