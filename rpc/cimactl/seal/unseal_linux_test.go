package seal

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc/cimactl/command"
)

// What follows the armour stays for the program.
func TestReadSealed(t *testing.T) {
	text := "-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n" + armourEnd + "\r\n"
	in := strings.NewReader(text + "for the program")
	got, err := readSealed(context.Background(), in)
	left, _ := io.ReadAll(in)
	if err != nil || string(got) != text || string(left) != "for the program" {
		t.Errorf("%q, %v, left %q", got, err, left)
	}
	if got, err := readSealed(context.Background(), strings.NewReader("no end")); err != nil || string(got) != "no end" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = readSealed(context.Background(), strings.NewReader(""))
	told(t, err, "no sealed secret came")
	_, err = readSealed(context.Background(), strings.NewReader(strings.Repeat("a", maxSealed+1)))
	told(t, err, "at most")
	never, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err = readSealed(ctx, never)
	told(t, err, "the key is gone")
}

func TestOnePlace(t *testing.T) {
	for want, u := range map[string]unsealing{
		"must not both go to stdout": {evidence: "-", within: 1},
		"above zero":                 {out: "f"},
	} {
		told(t, u.check(nil), want)
	}
	u := unsealing{out: "f", within: 1}
	told(t, u.check([]string{"app"}), "one place")
	if u.out = ""; u.check([]string{"app"}) != nil {
		t.Error("a program is refused")
	}
}

// A nonce on stdin is a line. What follows it is the sealed secret's.
func TestNonceFromStdin(t *testing.T) {
	in := strings.NewReader("00112233445566778899aabbccddeeff\nrest")
	got, err := command.ReadNonce("-", byByte{in})
	left, _ := io.ReadAll(in)
	if err != nil || len(got) != 16 || string(left) != "rest" {
		t.Errorf("%x, %v, left %q", got, err, left)
	}
	never, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err = await(ctx, "too late", func() ([]byte, error) { return command.ReadNonce("-", byByte{never}) })
	told(t, err, "too late")
}

// The secret's file is a new one, and its owner's alone.
func TestOut(t *testing.T) {
	dir := t.TempDir()
	u := unsealing{out: filepath.Join(dir, "secret")}
	if err := u.give(nil, []byte("s"), "", nil); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(u.out)
	if err != nil || info.Mode() != 0o600 || info.Size() != 1 {
		t.Errorf("%v, %v", info, err)
	}
	if err := u.give(nil, []byte("another"), "", nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("an old file: %v", err)
	}
	link := unsealing{out: filepath.Join(dir, "link")}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link.out); err != nil {
		t.Fatal(err)
	}
	if err := link.give(nil, []byte("s"), "", nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("a link: %v", err)
	}
}
