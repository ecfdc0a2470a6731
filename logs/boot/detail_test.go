package boot

import (
	"encoding/binary"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"

	"github.com/cima-project/cima/logs/logstest"
)

func utf16le(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

const (
	globalGUID = "\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c"
	endOfPath  = "\x7f\xff\x04\x00"
)

// le is n, little-endian, in size bytes.
func le(n int64, size int) string {
	return string(binary.LittleEndian.AppendUint64(nil, uint64(n))[:size])
}

func variable(name, value string) string {
	return globalGUID + le(int64(len(name)), 8) + le(int64(len(value)), 8) + utf16le(name) + value
}

func image(path string) string {
	return le(0x1000, 8) + le(4096, 8) + le(0, 8) + le(int64(len(path)), 8) + path
}

func filePath(name string) string {
	text := utf16le(name + "\x00")
	return "\x04\x04" + le(int64(len(text)+4), 2) + text + endOfPath
}

func gptOf(names ...string) string {
	header := "EFI PART" + strings.Repeat("\x00", 48) + globalGUID + strings.Repeat("\x00", 12) + le(128, 4) + le(0, 4)
	b := header + le(int64(len(names)), 8)
	for _, n := range names {
		name := utf16le(n)
		b += strings.Repeat("\x00", 16) + globalGUID + strings.Repeat("\x00", 24) + name + strings.Repeat("\x00", 72-len(name))
	}
	return b
}

func TestDetail(t *testing.T) {
	for _, c := range []struct {
		typ        uint32
		data, want string
	}{
		{EvEFIVariableDriverConfig, variable("SecureBoot", "\x01"), "SecureBoot: on"},
		{EvEFIVariableDriverConfig, variable("SecureBoot", "\x00"), "SecureBoot: off"},
		{EvEFIVariableDriverConfig, variable("SecureBoot", ""), "SecureBoot: not set"},
		{EvEFIVariableDriverConfig, variable("SecureBoot", "\x02"), "SecureBoot: undefined value 02"},
		{EvEFIVariableDriverConfig, variable("PK", ""), "PK: empty"},
		{EvEFIVariableDriverConfig, variable("db", "12345"), "db: 5 bytes"},
		{EvEFIVariableBoot2, variable("BootOrder", "\x05\x00\x0a\x00"), "BootOrder: 0005 000A"},
		{EvEFIVariableBoot, variable("Boot0005", le(1, 4)+le(int64(len(filePath("\\a.efi"))), 2)+utf16le("Linux\x00")+filePath("\\a.efi")), `Boot0005: "Linux" \a.efi`},
		{EvEFIVariableBoot, variable("Boot0006", "\x01"), "Boot0006: 1 bytes"},
		{EvEFIVariableAuthority, variable("SbatLevel", "sbat,1,2\n"), `SbatLevel: sbat,1,2\x0a`},
		{EvEFIVariableBoot, variable("x", "y")[:33], "EFI variable announces a name of 2 and a value of 1 bytes, but 1 are left: " + "61dfe48bca93d211aa0d00e098032b8c01000000000000000100000000000000"},
		{EvEFIBootServicesApplication, image(filePath(`\EFI\BOOT\BOOTX64.EFI`)), `\EFI\BOOT\BOOTX64.EFI (4096 bytes)`},
		{EvEFIBootServicesApplication, image("\x02\x01\x0c\x00\xd0\x41\x03\x0a" + le(0, 4) + "\x01\x01\x06\x00\x01\x03" + "\x03\x02\x08\x00\x01\x00\x02\x00" + endOfPath), "PciRoot(0x0)/Pci(0x3,0x1)/Scsi(0x1,0x2) (4096 bytes)"},
		{EvEFIBootServicesDriver, image("\x04\x07\x14\x00" + globalGUID + "\x04\x06\x14\x00" + globalGUID + endOfPath), "Fv(8BE4DF61-93CA-11D2-AA0D-00E098032B8C)/FvFile(8BE4DF61-93CA-11D2-AA0D-00E098032B8C) (4096 bytes)"},
		{EvEFIBootServicesDriver, image("\x09\x09\x05\x00\xAA\x01\x01\xFF\xFF"), "Path(9,9,aa)/(cut off) (4096 bytes)"},
		{EvEFIGPTEvent, gptOf("ESP", "root"), `disk 8BE4DF61-93CA-11D2-AA0D-00E098032B8C, 2 partitions, 8BE4DF61-93CA-11D2-AA0D-00E098032B8C "ESP", 8BE4DF61-93CA-11D2-AA0D-00E098032B8C "root"`},
		{EvEFIPlatformFirmwareBlob2, "\x03Fv!" + le(0xFF000000, 8) + le(64, 8), "Fv! 64 bytes at 0xff000000"},
		{EvEFIPlatformFirmwareBlob, le(16, 8) + le(64, 8), "64 bytes at 0x10"},
		{EvEFIHandoffTables2, "\x08TdxTable" + le(1, 8) + globalGUID + le(0, 8), "TdxTable 8BE4DF61-93CA-11D2-AA0D-00E098032B8C"},
		{EvEFIHandoffTables, le(1<<60, 8), "the list announces 1152921504606846976 tables, but 0 bytes are left: 0000000000000010"},
		{EvSeparator, "\x00\x00\x00\x00", "separator"},
		{EvSeparator, "\xff\xff\xff\xff", "separator"},
		{EvSeparator, "\x01\x00\x00\x00", "error separator: measuring failed before this point"},
		{EvSeparator, "abc", "a separator must have 4 bytes, not 3: 616263"},
		{EvIPL, "kernel_cmdline: /vmlinuz root=/dev/sda1\x00garbage", "kernel_cmdline: /vmlinuz root=/dev/sda1"},
		{EvIPL, utf16le("quiet splash €😀\x00"), "quiet splash €😀"},
		{EvIPL, "grub_cmd: \x1b[2J\x1b]0;owned\x07", `grub_cmd: \x1b[2J\x1b]0;owned\x07`},
		{EvIPL, "a\u202eb\u200bc", `a\u202eb\u200bc`},
		{EvIPL, "\xff\xfe\x00", "fffe00"},
		{EvIPL, "", ""},
		{EvEventTag, "\xec\x22\x3b\x8f\x0d\x00\x00\x00Linux initrd\x00", "linux initrd: Linux initrd"},
		{EvEventTag, "\x2a\x58\xbc\xf5\x0c\x00\x00\x00" + utf16le("loader"), "systemd loader.conf: loader"},
		{EvEventTag, "\xed\x22\x3b\x8f\x02\x00\x00\x00ro", "linux load options: ro"},
		{EvEventTag, "\x51\xf7\x46\x6c\x01\x00\x00\x00x", "systemd devicetree addon: x"},
		{EvEventTag, "\x0f\xfe\xdf\x49\x01\x00\x00\x00x", "systemd initrd addon: x"},
		{EvEventTag, "\x1a\x8e\xc0\xda\x01\x00\x00\x00x", "systemd ucode addon: x"},
		{EvEventTag, "\xdb\xd6\xae\x13\x01\x00\x00\x00x", "systemd UKI profile: x"},
		{EvEventTag, "\x01\x00\x00\x00\x02\x00\x00\x00hi", "tag 0x00000001: hi"},
		{EvEventTag, "\x01\x00\x00\x00\x03\x00\x00\x00hi", "not a tagged event: 01000000030000006869"},
		{EvEventTag, "LOADED_IMAGE::LoadOptions\x00", "LOADED_IMAGE::LoadOptions"}, // of the first TDX kernels
		{EvEventTag, "LEAA\x0a\x00\x00\x00cima a {}\x1b", `cima a {}\x1b`},
		{EvPlatformConfigFlags, "td_payload_info\x00\x10\x00\x00\x00root=/dev/vda1 rw\x00\x00", "td_payload_info: root=/dev/vda1 rw"},
		{EvPlatformConfigFlags, "etc/acpi/rsdp\x00\x00\x00", "etc/acpi/rsdp"},
		{EvNoAction, "SP800-155 Event3\x01\x02", "SP800-155 Event3"},
		{0x08000001, "whatever", "whatever"},
	} {
		e := Event{Type: c.typ, Data: []byte(c.data)}
		if got := e.Detail(); got != c.want {
			t.Errorf("%s %q:\n got %s\nwant %s", TypeName(c.typ), c.data, got, c.want)
		}
	}
	long := Event{Type: EvIPL, Data: []byte(strings.Repeat("€", 1<<16))}
	if got := long.Detail(); len(got) > maxDetail+8 || !strings.HasSuffix(got, "…") && len(got) > maxDetail {
		t.Errorf("detail of %d bytes", len(got))
	}
}

// The detail is one printable line, even if the data are cut off at any point.
func TestDetailIsPrintable(t *testing.T) {
	for _, e := range mustParse(t, moduleCCEL(t, "ubuntu-2404-intel-tdx.bin")).UnverifiedEvents() {
		whole := e.Data
		for n := 0; n <= len(whole); n += 1 + n/8 {
			e.Data = whole[:n]
			for _, c := range e.Detail() {
				if !unicode.IsPrint(c) {
					t.Fatalf("%s: %q", TypeName(e.Type), e.Detail())
				}
			}
		}
	}
}

func TestSharedBootLogs(t *testing.T) {
	for name, want := range map[string]int{"ubuntu-2404": 159, "gdc": 109, "td-shim": 5, "evidence-api": 98, "gcp-cos113": 43, "alibaba-aael": 87} {
		log := mustParse(t, logstest.SharedFile(t, name+"/ccel.bin"))
		if _, err := log.Replay(); err != nil || log.Len() != want {
			t.Errorf("%s: %d events, %v", name, log.Len(), err)
		}
		for i, e := range log.UnverifiedEvents() {
			if detail := e.Detail(); detail == "" && len(e.Data) > 0 {
				t.Errorf("%s: event %d (%s): no detail", name, i, TypeName(e.Type))
			}
		}
	}
}
