package boot

import (
	"strings"
	"testing"
)

func FuzzEFIVariable(f *testing.F) {
	f.Add([]byte(variable("SecureBoot", "\x01")))
	f.Add([]byte(variable("Boot0005", le(1, 4)+le(int64(len(filePath("\\a.efi"))), 2)+utf16le("Linux\x00")+filePath("\\a.efi"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseEFIVariable(b)
		if err == nil && (len(v.Value) > len(b) || len(v.GUID) != 36) {
			t.Errorf("%+v", v)
		}
		for _, typ := range []uint32{EvEFIVariableBoot, EvEFIBootServicesDriver, EvEFIGPTEvent, EvEFIHandoffTables2, EvEFIPlatformFirmwareBlob2, EvEventTag, EvIPL, EvPlatformConfigFlags} {
			e := Event{Type: typ, Data: b}
			if d := e.Detail(); len(d) > 4*maxDetail || strings.ContainsAny(d, "\n\x1b") {
				t.Errorf("%s: %d bytes %.80q", TypeName(typ), len(d), d)
			}
		}
	})
}
