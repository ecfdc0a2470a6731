package logs

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot"
)

// bounded fails where f allocates more than four times its input, and what
// a reader needs whatever it reads.
func bounded(t *testing.T, input int, f func()) {
	t.Helper()
	const fixed = 64 << 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(4*input+fixed) {
		t.Errorf("%d bytes allocated for an input of %d", used, input)
	}
}

// The worst that was thought of, at a size where it would show.
func TestAllocationIsBounded(t *testing.T) {
	const size = 256 << 10
	for _, unit := range []string{
		"\n", "x\n", "[", "[[],", "{\"a\":", "0,", "1.5,", "{},", "\x00", "\xff", `"\u0000",`,
		strings.Repeat("{", 100) + "\n", "{\"digests\":[" + strings.Repeat("{},", 30) + "{}]}\n",
		"{\"" + strings.Repeat("V\xa7", 15<<10) + "\":1}\n", "{\"" + strings.Repeat("Vé", 15<<10) + "\" :1}\n",
		string(AppendCELJSON(nil, CELRecord{})) + "\n",
		`{"rtmr":"","pcr":"","digests":[1,1,1,1,1,1,1,1,1],"recnum":"","content_type":1,"content":{}    }` + "\n",
		"{" + strings.Repeat(`"digests":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],`, 1000) + "\"a\":1}\n",
	} {
		b := []byte(strings.Repeat(unit, size/len(unit)))
		for name, parse := range map[string]func(){
			"CEL":   func() { var r boot.Registers; replayCEL(bytes.NewReader(b), &r) },
			"event": func() { ParseEvent(rawEvent("cima seal " + string(b[:min(len(b), MaxEvent-32)]))) },
		} {
			t.Run(name, func(t *testing.T) {
				input := len(b)
				if name == "event" {
					input *= 2 // the test itself makes copies
				}
				bounded(t, input, parse)
				if t.Failed() {
					t.Logf("%.80q", unit)
				}
			})
		}
	}
}
