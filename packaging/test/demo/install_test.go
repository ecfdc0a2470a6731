package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Where no engine works, the demo says which command brings one, and runs it only if it
// is told to.
func TestBringEngine(t *testing.T) {
	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	t.Setenv("PATH", bin)
	program := func(name, text string) {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	said := func() string {
		text, _ := os.ReadFile(log)
		return string(text)
	}
	s := &stage{dir: t.TempDir()}
	if err := s.bringEngine(t.Context(), true); err == nil || !strings.Contains(err.Error(), "install docker or podman") {
		t.Errorf("without a package manager: %v", err)
	}
	if err := s.bringEngine(t.Context(), false); err != nil {
		t.Error(err)
	}
	program("apt-get", `echo "apt-get $*" >>`+log+"\n")
	if err := s.bringEngine(t.Context(), false); err != nil || said() != "" {
		t.Errorf("unasked: %v, ran %q", err, said())
	}
	if words := inWords(installing()); !strings.HasPrefix(words, "apt-get update && apt-get install -y podman") {
		t.Errorf("%q is said", words)
	}
	if err := s.bringEngine(t.Context(), true); err == nil || !strings.HasPrefix(said(), "apt-get update\napt-get install -y podman") {
		t.Errorf("asked, and it brought none: %v, ran %q", err, said())
	}
	program("apt-get", "exit 3\n")
	if err := s.bringEngine(t.Context(), true); err == nil || !strings.Contains(err.Error(), "apt-get update: exit status 3") {
		t.Errorf("a failed installation: %v", err)
	}
}
