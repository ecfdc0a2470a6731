package boot

import "testing"

// Nodes as UEFI 2.10 section 10.3 lays them out, and their text by section 10.6.
func TestDevicePath(t *testing.T) {
	const guidText = "8BE4DF61-93CA-11D2-AA0D-00E098032B8C"
	disk := func(form string) string {
		return "\x04\x01\x2a\x00" + le(2, 4) + le(0x800, 8) + le(0x1000, 8) + globalGUID + form
	}
	for path, want := range map[string]string{
		"":                                     "",
		endOfPath:                              "",
		"\x01\x01\x06\x00\x01\x03" + endOfPath: "Pci(0x3,0x1)",
		"\x01\x04\x14\x00" + globalGUID:        "VenHw(" + guidText + ")",
		"\x02\x01\x0c\x00\xd0\x41\x03\x0a" + le(1, 4):                            "PciRoot(0x1)",
		"\x02\x01\x0c\x00\xd0\x41\x04\x06" + le(2, 4):                            "Acpi(PNP0604,0x2)",
		"\x02\x01\x0c\x00\x01\x02\x03\x04" + le(2, 4):                            "Acpi(0x04030201,0x2)",
		"\x03\x02\x08\x00\x01\x00\x02\x00":                                       "Scsi(0x1,0x2)",
		"\x03\x0b\x25\x00RT\x00\x12\x34\x56" + string(make([]byte, 26)) + "\x01": "MAC(525400123456,0x1)",
		"\x03\x12\x0a\x00\x01\x00\xff\xff\x00\x00":                               "Sata(0x1,0xFFFF,0x0)",
		"\x03\x17\x10\x00" + le(1, 4) + le(0x25, 8):                              "NVMe(0x1,0000000000000025)",
		"\x03\x18\x0c\x00http://a":                                               "Uri(http://a)",
		disk("\x02\x02"):                                                         "HD(2,GPT," + guidText + ",0x800,0x1000)",
		disk("\x01\x01"):                                                         "HD(2,MBR,0x8BE4DF61,0x800,0x1000)",
		disk("\x00\x07"):                                                         "HD(2,7,0,0x800,0x1000)",
		"\x04\x03\x14\x00" + globalGUID:                                          "VenMedia(" + guidText + ")",
		"\x04\x06\x14\x00" + globalGUID:                                          "FvFile(" + guidText + ")",
		"\x04\x07\x14\x00" + globalGUID:                                          "Fv(" + guidText + ")",
		filePath(`\a`) + "rest":                                                  `\a`,
		"\x03\x18\x05\x00a\x7f\x01\x04\x00\x03\x18\x05\x00b":                     "Uri(a),Uri(b)",
		"\x01\x01\x05\x00\x07":                                                   "Path(1,1,07)",
		"\x01\x01\x03\x00":                                                       "/(cut off)",
		"\x01\x01\x07\x00\x01\x03":                                               "/(cut off)",
	} {
		if got := devicePath([]byte(path)); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
}
