package firstseen

import (
	"crypto/sha512"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot"
)

// The line is taken from an event whose digest covers it: as grub, older grubs and stubs
// write it.
func TestLineOf(t *testing.T) {
	const line = "ro roothash=abcd"
	wide := func(text string) string {
		var b strings.Builder
		for _, r := range text {
			b.WriteString(string(r) + "\x00")
		}
		return b.String()
	}
	for name, c := range map[string]struct{ hashed, data, want string }{
		"grub":                     {line, "kernel_cmdline: " + line + "\x00", line},
		"an older grub":            {line + "\x00", "grub_kernel_cmdline " + line + "\x00", line},
		"with bytes behind":        {line + "\x00", "grub_kernel_cmdline " + line + "\x00x", line},
		"a stub":                   {wide(line + "\x00"), wide(line + "\x00"), line},
		"not what was hashed":      {"evil", "kernel_cmdline: " + line, ""},
		"behind a newline":         {"evil\n" + line, "kernel_cmdline: evil\n" + line, ""},
		"another event":            {line, "grub_cmd: " + line, ""},
		"behind a NUL, and hashed": {"evil\x00" + line, "kernel_cmdline: evil\x00" + line, ""},
	} {
		log, err := boot.Parse(boot.Encode([]boot.Event{{MR: 3, Type: boot.EvIPL, Digest: sha512.Sum384([]byte(c.hashed)), Data: []byte(c.data)}}))
		if err != nil {
			t.Fatal(err)
		}
		if got := lineOf(log); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestUsedOnce(t *testing.T) {
	for word, once := range map[string]bool{
		"--port=8443": false, "/usr/bin/app": false, "sha256:" + strings.Repeat("ab", 32): false, "--replicas=3": false, "v1.2.3": false,
		"--nonce=1": true, "TOKEN=x": true, "3f2504e0-4f89-11d3-9a0c-0305e82c3301": true, "--since=2026-11-29": true, "0a1b2c3d4e5f60718293a4b5": true,
	} {
		if usedOnce(word) != once {
			t.Errorf("%q: %v", word, !once)
		}
	}
	for words, stdin := range map[string]bool{"--nonce -": true, "--nonce - --json": true, "--nonce": false, "--nonce 12": false, "--nonce=1 -": false, "nonce -": false} {
		var list []any
		for w := range strings.FieldsSeq(words) {
			list = append(list, w)
		}
		if readsStdin(list) != stdin {
			t.Errorf("%q: %v", words, !stdin)
		}
	}
}
