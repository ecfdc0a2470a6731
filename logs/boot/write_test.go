package boot

import (
	"bytes"
	"testing"
)

func TestWrittenLogReadsBack(t *testing.T) {
	events := someEvents()
	raw := Encode(events)
	for name, padding := range map[string][]byte{
		"none": nil, "OVMF": bytes.Repeat([]byte{0xFF}, 1000), "td-shim": make([]byte, 1000),
		"AAEL's end": []byte(logEnd), "three bytes": {0xFF, 0xFF, 0xFF}, "two zeros": {0, 0},
	} {
		log := mustParse(t, append(bytes.Clone(raw), padding...))
		if log.Len() != len(events) || !bytes.Equal(log.Bytes(), raw) {
			t.Errorf("padding %s: %d events in %d bytes", name, log.Len(), len(log.Bytes()))
		}
		for i, e := range log.UnverifiedEvents() {
			w := events[i]
			if e.MR != w.MR || e.Type != w.Type || e.Digest != w.Digest || !bytes.Equal(e.Data, w.Data) || !digestCoversData(e) {
				t.Errorf("event %d: %+v", i, e)
			}
		}
	}
	trimmed, err := Trim(append(bytes.Clone(raw), bytes.Repeat([]byte{0xFF}, 64)...))
	if err != nil || !bytes.Equal(trimmed, raw) {
		t.Errorf("trimmed to %d bytes of %d: %v", len(trimmed), len(raw), err)
	}
}
