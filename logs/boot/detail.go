package boot

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDetail is roughly how many bytes an event's detail may have.
const maxDetail = 4096

// Detail shows the event's data in one line of printable text of about 4096 bytes at
// most, "" where they are empty. Data that can't be decoded are shown as an error and
// hex. It is for people to read: the data are proved only where
// [Event.DigestCoversData].
func (e *Event) Detail() string {
	text, err := e.decode()
	if err != nil {
		head := e.Data[:min(len(e.Data), 32)]
		text = fmt.Sprintf("%v: %s", err, hex.EncodeToString(head))
	}
	return clean(text)
}

func (e *Event) decode() (string, error) {
	switch e.Type {
	case EvEFIVariableDriverConfig, EvEFIVariableBoot, EvEFIVariableBoot2, EvEFIVariableAuthority,
		EvEFISPDMDevicePolicy, EvEFISPDMDeviceAuthority:
		v, err := parseEFIVariable(e.Data)
		if err != nil {
			return "", err
		}
		return v.String(), nil
	case EvEFIBootServicesApplication, EvEFIBootServicesDriver, EvEFIRuntimeServicesDriver:
		return imageLoad(e.Data)
	case EvEFIGPTEvent, EvEFIGPTEvent2:
		return gpt(e.Data)
	case EvEFIPlatformFirmwareBlob, EvEFIPlatformFirmwareBlob2:
		return firmwareBlob(e.Data, e.Type == EvEFIPlatformFirmwareBlob2)
	case EvEFIHandoffTables, EvEFIHandoffTables2:
		return handoffTables(e.Data, e.Type == EvEFIHandoffTables2)
	case EvSeparator:
		return separator(e.Data)
	case EvEventTag:
		return taggedEvent(e.Data)
	case EvNoAction:
		return anyText(e.Data[:min(len(e.Data), 16)]), nil
	case EvPlatformConfigFlags:
		return platformConfig(e.Data), nil
	}
	return anyText(e.Data), nil
}

// separator: TCG PFP 1.06 section 10.4.1, EV_SEPARATOR.
func separator(b []byte) (string, error) {
	if len(b) != 4 {
		return "", fmt.Errorf("a separator must have 4 bytes, not %d", len(b))
	}
	switch v := binary.LittleEndian.Uint32(b); v {
	case 0, 0xFFFFFFFF:
		return "separator", nil
	case 1:
		return "error separator: measuring failed before this point", nil
	default:
		return "", fmt.Errorf("a separator must be 0, 1 or 0xffffffff")
	}
}

// tagName names the tagged events of Linux's EFI stub (drivers/firmware/efi/libstub) and
// of systemd-stub (src/fundamental/tpm2-pcr.h).
func tagName(tag uint32) string {
	switch tag {
	case 0x8F3B22EC:
		return "linux initrd"
	case 0x8F3B22ED:
		return "linux load options"
	case 0xF5BC582A:
		return "systemd loader.conf"
	case 0x6C46F751:
		return "systemd devicetree addon"
	case 0x49DFFE0F:
		return "systemd initrd addon"
	case 0xDAC08E1A:
		return "systemd ucode addon"
	case 0x13AED6DB:
		return "systemd UKI profile"
	}
	return fmt.Sprintf("tag 0x%08x", tag)
}

func taggedEvent(b []byte) (string, error) {
	if a, err := ParseAAEL(b); err == nil {
		return a.Domain + " " + a.Operation + " " + a.Content, nil
	}
	if len(b) < TagHeaderLen || uint64(binary.LittleEndian.Uint32(b[4:])) > uint64(len(b)-TagHeaderLen) {
		// Linux's EFI stub of the first TDX kernels writes the text alone.
		if text := anyText(b); len(b) >= 4 && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) && text != hex.EncodeToString(b[:min(len(b), 32)]) {
			return text, nil
		}
		return "", fmt.Errorf("not a tagged event")
	}
	return tagName(binary.LittleEndian.Uint32(b)) + ": " + anyText(b[TagHeaderLen:]), nil
}

// platformConfig shows EV_PLATFORM_CONFIG_FLAGS. OVMF writes a name padded with NUL.
// td-shim writes a name of 16 bytes, a u32 length and a body; the body of
// td_payload_info is the kernel's command line.
func platformConfig(b []byte) string {
	const info = "td_payload_info\x00"
	if bytes.HasPrefix(b, []byte(info)) && len(b) > len(info)+4 {
		return "td_payload_info: " + anyText(b[len(info)+4:])
	}
	return anyText(b)
}

// anyText reads UTF-8 or UTF-16 up to its NUL, and shows anything else as hex.
// systemd-stub writes command lines in UTF-16.
func anyText(b []byte) string {
	if len(b) >= 4 && len(b)%2 == 0 && b[0] != 0 && b[1] == 0 && b[2] != 0 && b[3] == 0 {
		return utf16Text(b)
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		if i > 0 && utf8.Valid(b[:i]) {
			return string(b[:min(i, maxDetail+utf8.UTFMax)]) // clean cuts the rest
		}
	} else if utf8.Valid(b) {
		return string(b[:min(len(b), maxDetail+utf8.UTFMax)])
	}
	return hex.EncodeToString(b[:min(len(b), 32)])
}

// utf16Text reads little-endian UTF-16 up to a NUL or the end.
func utf16Text(b []byte) string {
	var s strings.Builder
	for len(b) >= 2 && s.Len() < maxDetail {
		c := rune(binary.LittleEndian.Uint16(b))
		if b = b[2:]; c == 0 {
			break
		}
		if utf16.IsSurrogate(c) && len(b) >= 2 {
			if pair := utf16.DecodeRune(c, rune(binary.LittleEndian.Uint16(b))); pair != utf8.RuneError {
				c, b = pair, b[2:]
			}
		}
		s.WriteRune(c)
	}
	return s.String()
}

// clean makes text safe to print: without control characters, invisible characters and
// escape sequences, and not much longer than maxDetail.
func clean(text string) string {
	var s strings.Builder
	for _, c := range text {
		switch {
		case s.Len() >= maxDetail:
			s.WriteString("…")
			return s.String()
		case unicode.IsPrint(c) && c != utf8.RuneError:
			s.WriteRune(c)
		case c < 0x100:
			fmt.Fprintf(&s, "\\x%02x", c)
		default:
			fmt.Fprintf(&s, "\\u%04x", c)
		}
	}
	return strings.TrimRight(s.String(), " ")
}
