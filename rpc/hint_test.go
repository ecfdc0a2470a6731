package rpc

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The mistakes that newcomers make are named: something else lies where the socket must be.
func TestHintsNameTheMistake(t *testing.T) {
	dir := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	for _, d := range []string{"run/cima", "run/cima-admin", "made/cima.sock", "empty/cima-admin"} {
		if err := os.MkdirAll(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, socket := range []string{"run/cima/cima.sock", "run/cima-admin/admin.sock"} {
		l, err := net.Listen("unix", at(socket))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"run/cima":                    "is a directory: the socket in it is " + at("run/cima/cima.sock"),
		"made/cima.sock":              "an engine makes one where the socket to mount isn't there",
		"run":                         "is a directory: a socket must be named",
		"file":                        "is a file, and no socket",
		"run/cima-admin/cima.sock":    "has the admin socket, which is for root on the host: a container mounts /run/cima",
		"empty/cima-admin/admin.sock": "is the directory of the admin socket",
	} {
		_, err := Dial(t.Context(), at(path))
		var away *UnreachableError
		if !errors.As(err, &away) || !strings.Contains(away.Hint, want) {
			t.Errorf("%s: %v, %+v", path, err, away)
		}
	}
}

// Another service's socket, docker's for example, is named as such.
func TestAnotherServiceAnswers(t *testing.T) {
	for reply, want := range map[string]string{
		"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n": "an engine's API does (docker.sock)",
		"220 mail ESMTP\r\n": "another service listens there",
	} {
		path, _ := rude(t, func(int64) string { return reply })
		_, err := dial(t, Dialer{Path: path}).WhoAmI(t.Context())
		var away *UnreachableError
		if !errors.As(err, &away) || !strings.Contains(away.Hint, want) || away.Path != path {
			t.Errorf("%q: %v, %+v", reply, err, away)
		}
	}
}
