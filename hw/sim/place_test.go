package sim

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSocketIsPrivate(t *testing.T) {
	_, td := serve(t, Config{})
	info, err := os.Lstat(td.path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("td.sock has mode %v (%v)", info.Mode(), err)
	}
	if _, err := Listen(td.path); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second TD at one place: %v", err)
	}
}

func TestListenRefusesPlaces(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	os.Chmod(open, 0o777)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(open, "td.sock"), file, filepath.Join(link, "td.sock"), filepath.Join(dir, "none", "td.sock")} {
		if l, err := Listen(path); err == nil {
			l.Close()
			t.Errorf("%s: a socket was made there", path)
		}
		if _, err := Dial(path); err == nil {
			t.Errorf("%s: a TD was found there", path)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("a file that is no socket was removed")
	}
}

// The socket of a TD that was killed is replaced.
func TestListenAfterAKill(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	path := filepath.Join(dir, "td.sock")
	dead, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Serve(ctx, listener, boot(t, Config{})); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket stays after an orderly end")
	}
}

func TestDialRefusesAnOpenSocket(t *testing.T) {
	_, td := serve(t, Config{})
	if err := os.Chmod(td.path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(td.path); err == nil {
		t.Error("a socket that everybody can write to was taken for a TD")
	}
}

func TestRootFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.pem")
	first := boot(t, Config{RootFile: path})
	second := boot(t, Config{RootFile: path})
	if string(first.RootPEM()) != string(second.RootPEM()) {
		t.Error("two boots with one root file have two roots")
	}
	if err := judge(quoteOf(t, second, [64]byte{}), first.RootPEM()); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("root file: %v, %v", info.Mode(), err)
	}
	os.Chmod(path, 0o644)
	if _, err := Boot(Config{RootFile: path}); err == nil {
		t.Error("a key that others can read was taken")
	}
	os.Chmod(path, 0o600)
	for _, text := range []string{"", "nonsense", string(first.RootPEM()) + string(first.RootPEM())} {
		os.WriteFile(path, []byte(text), 0o600)
		if _, err := Boot(Config{RootFile: path}); err == nil {
			t.Errorf("%.20q was taken for a root", text)
		}
	}
}
