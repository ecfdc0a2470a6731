package logs

import (
	"bytes"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/logs/logstest"
)

// replayCEL extends the registers with a log's records, and counts the records and the
// lines that are not records.
func replayCEL(src io.Reader, registers *boot.Registers) (records, skipped int) {
	for r, err := range unverifiedCELRecords(src) {
		if err != nil {
			skipped++
			continue
		}
		registers[r.RTMR] = registers[r.RTMR].Extend(r.Digest)
		records++
	}
	return records, skipped
}

// Lines as systemd writes them, and lines that must be refused.
func TestSystemdLog(t *testing.T) {
	d := strings.Repeat("ab", 48)
	digest := `"digests":[{"hashAlg":"sha256","digest":"00"},{"hashAlg":"sha384","digest":"` + d + `"}]`
	content := `"content_type":"systemd","content":{"string":"enter-initrd","bootId":"0123","timestamp":123,"eventType":"phase"}`
	good := "\x1e{\"rtmr\":2,\"mapped_pcr\":11," + digest + "," + content + "}\n"
	log := good +
		"\x1e{\"pcr\":7," + digest + "}\n" + "\n" +
		"not JSON\n" +
		"{\"rtmr\":4," + digest + "}\n" +
		"{\"pcr\":0," + digest + "}\n" +
		"{\"pcr\":16," + digest + "}\n" +
		"{" + digest + "}\n" +
		"{\"rtmr\":2,\"digests\":[]}\n" +
		"{\"rtmr\":2,\"digests\":[{\"hashAlg\":\"sha384\",\"digest\":\"abcd\"}]}\n" +
		"{\"rtmr\":2,\"digests\":[{\"hashAlg\":\"sha384\",\"digest\":\"" + d + "\"},{\"hashAlg\":\"sha384\",\"digest\":\"" + d + "\"}]}\n" +
		"{\"rtmr\":2,\"digests\":[" + strings.Repeat(`{"hashAlg":"sha1","digest":"00"},`, 16) + `{"hashAlg":"sha384","digest":"` + d + "\"}]}\n" +
		good
	var want boot.Registers
	x := [48]byte(bytes.Repeat([]byte{0xab}, 48))
	want[2] = canonical.Digest(want[2]).Extend(x).Extend(x)
	want[0] = canonical.Digest(want[0]).Extend(x)
	var got boot.Registers
	if n, skipped := replayCEL(strings.NewReader(log), &got); n != 3 || skipped != 9 || got != want {
		t.Errorf("%d records, %d skipped, %s", n, skipped, got)
	}
	for r, err := range unverifiedCELRecords(strings.NewReader(good)) {
		if err != nil || r.contentType != "systemd" || !strings.Contains(string(r.content), "enter-initrd") {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if _, skipped := replayCEL(strings.NewReader(strings.Repeat("x", maxCELRecord+1)), &got); skipped != 1 {
		t.Error("a line too long passed unnoticed")
	}
}

// White space, order and escapes are free; a member that is there twice, or of another
// type, is refused.
func TestCELMembers(t *testing.T) {
	d := strings.Repeat("ab", 48)
	const rtmr, more = `"rtmr":2`, `"content":{"padding":"xxxxxxxxxxxxxxxxxxxxxxxx"}`
	list := `"digests":[{"hashAlg":"sha384","digest":"` + d + `"}]`
	for line, good := range map[string]bool{
		rtmr + "," + list:   true,
		list + " , " + rtmr: true,
		`"rtmr" : 2 , "digests" : [ { "digest" : "` + d + `" , "hashAlg" : "sha384" } , { "hashAlg" : "sha1" , "digest" : "00" } ]`: true,
		rtmr + `,"recnum":null,"pcr":null,"content_type":null,` + list:                                                              true,
		rtmr + `,"content_type":"a",` + list: true,

		rtmr + `,"rtmr":2,` + list:                                               false,
		rtmr + `,"digests":[],` + list:                                           false,
		rtmr + "," + list + "," + list:                                           false,
		`"rtmr":"2",` + list:                                                     false,
		`"rtmr":2.0,` + list:                                                     false,
		`"rtmr":-2,` + list:                                                      false,
		`"rtmr":4294967298,` + list:                                              false,
		`"pcr":4294967303,` + list:                                               false,
		`"rtmr":18446744073709551618,` + list:                                    false,
		rtmr + `,"recnum":"0",` + list:                                           false,
		rtmr + `,"content_type":1,` + list:                                       false,
		rtmr + `,"content_type":"a","content_type":"b",` + list:                  false,
		rtmr + `,"content_type":"\u0061",` + list:                                true,
		rtmr + `,"digests":{"hashAlg":"sha384","digest":"` + d + `"}`:            false,
		rtmr + `,"digests":[1,{"hashAlg":"sha384","digest":"` + d + `"}]`:        false,
		rtmr + `,"digests":[{"hashAlg":"sha384","digest":"` + d + `","more":1}]`: false,
		rtmr + `,"digests":[{"hashAlg":"sha384","digest":"` + d + `","digest":"` + d + `"}]`:   false,
		rtmr + `,"digests":[{"hashAlg":"sh\u00613842","digest":"` + d + `"}]`:                  false,
		rtmr + `,"digests":[{"hashAlg":"sha384","digest":"` + strings.Repeat("xy", 48) + `"}]`: false,
		rtmr + `,"digests":[{"hashAlg":"sha384"},{"digest":"` + d + `"}]`:                      false,
		rtmr + `,"digests":[[{"hashAlg":"sha384","digest":"` + d + `"}]]`:                      false,
	} {
		var registers boot.Registers
		n, skipped := replayCEL(strings.NewReader("{"+line+","+more+"}\n"), &registers)
		if n+skipped != 1 || (n == 1) != good {
			t.Errorf("%d records, %d skipped, good %t: %s", n, skipped, good, line)
		}
		if good && hex.EncodeToString(registers[2][:]) != hex.EncodeToString(replayOnce(d)) {
			t.Errorf("another digest: %s", line)
		}
	}
}

func replayOnce(digest string) []byte {
	b, _ := hex.DecodeString(digest)
	value := canonical.Digest{}.Extend([48]byte(b))
	return value[:]
}

// Lines that could cost most, at a size where it would show.
func TestReadingCELIsBounded(t *testing.T) {
	const size = 256 << 10
	for _, unit := range []string{
		"\n", "x\n", "[", "{\"a\":", "{},", "\x00", "\xff",
		strings.Repeat("{", 100) + "\n", "{\"digests\":[" + strings.Repeat("{},", 30) + "{}]}\n",
		"{\"" + strings.Repeat("V\xa7", 15<<10) + "\":1}\n", "{\"" + strings.Repeat("Vé", 15<<10) + "\" :1}\n",
		string(AppendCELJSON(nil, CELRecord{})) + "\n",
		`{"rtmr":"","pcr":"","digests":[1,1,1,1,1,1,1,1,1],"recnum":"","content_type":1,"content":{}    }` + "\n",
		"{" + strings.Repeat(`"digests":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],`, 1000) + "\"a\":1}\n",
	} {
		b := []byte(strings.Repeat(unit, size/len(unit)))
		logstest.Bounded(t, len(b), func() { var r boot.Registers; replayCEL(bytes.NewReader(b), &r) })
		if t.Failed() {
			t.Fatalf("%.80q", unit)
		}
	}
}

func FuzzCELRecords(f *testing.F) {
	f.Add(AppendCELJSON(nil, CELRecord{RTMR: 3, Type: boot.EvEventTag, Data: []byte("LEAA")}))
	f.Add([]byte("\x1e{\"rtmr\":2,\"mapped_pcr\":11,\"digests\":[{\"hashAlg\":\"sha384\",\"digest\":\"" + strings.Repeat("ab", 48) + "\"}],\"content_type\":\"systemd\",\"content\":{\"string\":\"x\"}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		logstest.Bounded(t, len(b), func() {
			var r boot.Registers
			records, skipped := replayCEL(bytes.NewReader(b), &r)
			if records == 0 && r != (boot.Registers{}) || records+skipped > bytes.Count(b, []byte("\n"))+1 {
				t.Errorf("%d records, %d skipped of %q", records, skipped, b)
			}
		})
	})
}
