package policy

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// BootPattern describes events of the boot log, for a register whose value
// varies: a kernel's command line, an initrd. Its members must all fit. Where
// a register has patterns, each event that extends it fits one of them.
type BootPattern struct {
	RTMR     int         `toml:"rtmr"`     // 0–2
	Type     string      `toml:"type"`     // as cimactl replay shows it, "EV_IPL"
	Digest   *rpc.Digest `toml:"digest"`   // the event's
	Text     string      `toml:"text"`     // what was hashed: in UTF-8 or UTF-16, with or without a NUL
	Words    []string    `toml:"words"`    // each is a word of the text that was hashed, "roothash=…"
	Optional bool        `toml:"optional"` // the event may be missing

	OnlyWords bool `toml:"only_words"` // and no other word is
	Any       bool `toml:"any"`        // any event that the log calls of the type
}

func (p BootPattern) check() error {
	switch {
	case p.RTMR < 0 || p.RTMR > 2:
		return fmt.Errorf("rtmr must be 0, 1 or 2, not %d", p.RTMR)
	case p.OnlyWords && len(p.Words) == 0:
		return errors.New("only_words must come with words")
	case p.proves() && p.Any:
		return errors.New("any must come without digest, text and words")
	case !p.proves() && !p.Any:
		return errors.New("it fits any event, because no digest covers a type: it must have digest, text or words, or any = true")
	}
	for _, w := range p.Words {
		if len(strings.Fields(w)) != 1 || strings.TrimSpace(w) != w {
			return fmt.Errorf("%q must be one word", w)
		}
	}
	return nil
}

// proves reports whether the pattern wants more than a type. A type proves
// nothing: who writes the log down can give any to an event, and the register is
// the same.
func (p BootPattern) proves() bool { return p.Digest != nil || p.Text != "" || len(p.Words) > 0 }

// String is the pattern as people read it.
func (p BootPattern) String() string {
	parts := []string{fmt.Sprintf("rtmr%d", p.RTMR)}
	if p.Type != "" {
		parts = append(parts, p.Type)
	}
	if p.Any {
		parts = append(parts, "any")
	}
	if p.Digest != nil {
		parts = append(parts, fmt.Sprintf("%.16s…", p.Digest))
	}
	if p.Text != "" {
		parts = append(parts, fmt.Sprintf("%q", replay.Clip(p.Text, 60)))
	}
	return strings.Join(append(parts, p.Words...), " ")
}

func (p BootPattern) fits(e *boot.Event) bool {
	switch {
	case p.Type != "" && p.Type != boot.TypeName(e.Type),
		p.Digest != nil && *p.Digest != e.Digest,
		p.Text != "" && !slices.ContainsFunc(encodings(p.Text), func(b []byte) bool { return sha512.Sum384(b) == e.Digest }):
		return false
	}
	if len(p.Words) == 0 {
		return true
	}
	said := words(provedText(e))
	for _, w := range p.Words {
		if !slices.Contains(said, w) {
			return false
		}
	}
	return !p.OnlyWords || !slices.ContainsFunc(said, func(w string) bool { return !slices.Contains(p.Words, w) })
}

// encodings are the bytes that firmware and boot loaders hash for a text:
// grub the text, systemd-stub and Linux's EFI stub UTF-16 with its NUL.
func encodings(text string) [][]byte {
	var wide []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		wide = binary.LittleEndian.AppendUint16(wide, unit)
	}
	return [][]byte{[]byte(text), []byte(text + "\x00"), wide, append(bytes.Clone(wide), 0, 0)}
}

// provedText is the text in an event's data that its digest covers, ""
// where it covers none.
func provedText(e *boot.Event) string {
	plain := bytes.TrimRight(e.Data, "\x00")
	candidates := [][]byte{e.Data, plain}
	for _, label := range []string{": ", " "} { // grub's "kernel_cmdline: …"
		if _, rest, ok := bytes.Cut(plain, []byte(label)); ok {
			candidates = append(candidates, rest)
		}
	}
	for _, c := range candidates {
		if sha512.Sum384(c) == e.Digest {
			return textOf(c)
		}
	}
	return ""
}

// textOf is "" where a NUL stands in the text: a program that executes it may end
// there, or read it as UTF-16 where this function does not.
func textOf(b []byte) string {
	if len(b) < 4 || len(b)%2 != 0 || b[1] != 0 || b[3] != 0 {
		return untilEnd(string(b))
	}
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return untilEnd(string(utf16.Decode(units)))
}

func untilEnd(text string) string {
	if text = strings.TrimRight(text, "\x00"); strings.Contains(text, "\x00") {
		return ""
	}
	return text
}

// words splits text as the kernel splits its command line: at ASCII's spaces.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) })
}
