package boot

import (
	"crypto/sha512"
	"strings"
	"testing"
)

func TestSecureBootState(t *testing.T) {
	on, off := variable("SecureBoot", "\x01"), variable("SecureBoot", "\x00")
	unproved := event(1, EvEFIVariableDriverConfig, on)
	unproved.Digest = sha512.Sum384([]byte("something else"))
	for want, events := range map[string][]Event{
		"on":  {event(1, EvEFIVariableDriverConfig, on), event(1, EvEFIVariableDriverConfig, variable("PK", "\x00"))},
		"off": {event(1, EvEFIVariableDriverConfig, off), event(1, EvEFIVariableDriverConfig, off)},
	} {
		if got := mustParse(t, Encode(events)).SecureBootState(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for name, events := range map[string][]Event{
		"none": {}, "both": {event(1, EvEFIVariableDriverConfig, on), event(1, EvEFIVariableDriverConfig, off)},
		"unproved": {unproved}, "another type": {event(1, EvEFIVariableBoot, on)}, "not set": {event(1, EvEFIVariableDriverConfig, variable("SecureBoot", ""))},
		"of RTMR1": {event(2, EvEFIVariableDriverConfig, on)}, "extends nothing": {event(0, EvEFIVariableDriverConfig, on)},
	} {
		if got := mustParse(t, Encode(events)).SecureBootState(); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func FuzzEFIVariable(f *testing.F) {
	f.Add([]byte(variable("SecureBoot", "\x01")))
	f.Add([]byte(variable("Boot0005", le(1, 4)+le(len(filePath("\\a.efi")), 2)+utf16le("Linux\x00")+filePath("\\a.efi"))))
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
