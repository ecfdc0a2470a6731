package logs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/cima-project/cima/logs/boot"
)

// RuntimeRecord is an extend of a register after the boot, as a file shows it.
type RuntimeRecord struct {
	RTMR   int      // 0–3; CIMA's own events extend RTMR3
	Digest [48]byte // SHA-384
	Data   []byte   // event data; nil where only the digest is shown
	Event  *Event   // an event of CIMA's runtime log; nil for other events

	// Before and After are RTMR3 as the writer read it before and after the extend; nil
	// in forms that don't record them.
	Before, After *[48]byte
}

// maxRuntimeLine is the most bytes of a line in cimad's file: an event in base64, and the
// other members.
const maxRuntimeLine = MaxEvent*4/3 + 1024

// UnverifiedRuntimeRecords reads a file of runtime events, and detects its form: cimad's own
// (/run/log/cima/runtime.log: a header, then a line of JSON for each event, of which the
// last may be incomplete), lines of CEL-JSON (CEL 1.0 section 5.3), or records in the
// boot log's form (TCG_PCR_EVENT2 with AAEL data), with or without a boot log before them.
// Of a boot log it yields the events of RTMR3 alone. It ends after the first error.
func UnverifiedRuntimeRecords(src io.Reader) iter.Seq2[RuntimeRecord, error] {
	return func(yield func(RuntimeRecord, error) bool) {
		in := bufio.NewReaderSize(src, maxRuntimeLine)
		head, _ := in.Peek(64)
		text := bytes.TrimLeft(head, "\x1e \t\r\n")
		switch {
		case len(head) == 0:
		case bytes.HasPrefix(text, []byte(`{"cima":`)):
			readRuntimeFile(in, yield)
		case bytes.HasPrefix(text, []byte("{")):
			for r, err := range unverifiedCELRecords(in) {
				if err != nil {
					err = fmt.Errorf("runtime log: a line of CEL-JSON: %w", err)
				}
				if !yield(RuntimeRecord{RTMR: r.RTMR, Digest: r.Digest, Data: r.content}, err) || err != nil {
					return
				}
			}
		default:
			readRuntimeRecords(in, yield)
		}
	}
}

// readRuntimeFile reads cimad's file, without its header.
func readRuntimeFile(in *bufio.Reader, yield func(RuntimeRecord, error) bool) {
	for n := 0; ; n++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return // a line without a newline was not written completely
		}
		if err != nil {
			yield(RuntimeRecord{}, fmt.Errorf("runtime log: line %d: %w", n, err))
			return
		}
		if n == 0 {
			continue
		}
		r, err := parseRuntimeLine(line)
		if err != nil {
			err = fmt.Errorf("runtime log: event %d: %w", n-1, err)
		}
		if !yield(r, err) || err != nil {
			return
		}
	}
}

func parseRuntimeLine(line []byte) (RuntimeRecord, error) {
	var form struct {
		Before string `json:"before"`
		After  string `json:"after"`
		Event  []byte `json:"event"`
	}
	if json.Unmarshal(line, &form) != nil { // its error would name Go types
		return RuntimeRecord{}, errors.New("a line must be a JSON object with before, after and event")
	}
	e, err := ParseEvent(form.Event)
	if err != nil {
		return RuntimeRecord{}, err
	}
	r := RuntimeRecord{RTMR: 3, Digest: e.Digest(), Data: e.Bytes(), Event: &e}
	for _, v := range []struct {
		text string
		to   **[48]byte
	}{{form.Before, &r.Before}, {form.After, &r.After}} {
		value, err := hex.DecodeString(v.text)
		if err != nil || len(value) != 48 {
			return RuntimeRecord{}, errors.New("before and after must have 96 hex digits")
		}
		*v.to = (*[48]byte)(value)
	}
	return r, nil
}

// readRuntimeRecords reads records in the boot log's form.
func readRuntimeRecords(in io.Reader, yield func(RuntimeRecord, error) bool) {
	const maxSize = 64 << 20
	raw, err := io.ReadAll(io.LimitReader(in, maxSize+1))
	if err == nil && len(raw) > maxSize {
		err = fmt.Errorf("it must have at most %d bytes", maxSize)
	}
	if err != nil {
		yield(RuntimeRecord{}, fmt.Errorf("runtime log: %w", err))
		return
	}
	log, err := boot.Parse(raw)
	if err != nil { // perhaps there are records without a log's header
		log, err = boot.Parse(append(boot.AppendHeader(nil), raw...))
	}
	if err != nil {
		yield(RuntimeRecord{}, fmt.Errorf("runtime log: it must be cimad's file, CEL-JSON, or records of a boot log: %w", err))
		return
	}
	for _, e := range log.UnverifiedEvents() {
		if rtmr, ok := e.Extends(); !ok || rtmr != 3 {
			continue
		}
		r := RuntimeRecord{RTMR: 3, Digest: e.Digest}
		if !e.Redacted() {
			r.Data = e.Data
		}
		if own, err := ParseEvent(e.Data); err == nil && own.Digest() == e.Digest {
			r.Event = &own
		}
		if !yield(r, nil) {
			return
		}
	}
}
