package logs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/cima-project/cima/logs/boot"
)

// RuntimeRecord is what a file says extended a register after the boot.
type RuntimeRecord struct {
	RTMR   int // 0–3; CIMA's own events are RTMR3's
	Digest [48]byte
	Data   []byte // event data, nil where only the digest is shown
	Event  *Event // of CIMA's own log, nil for others'

	// Before and After are RTMR3 as the writer read it round the extend,
	// nil where the form has no place for them.
	Before, After *[48]byte
}

// maxRuntimeLine bounds a line of cimad's file: an event in base64 and what
// stands beside it.
const maxRuntimeLine = MaxEvent*4/3 + 1024

// UnverifiedRuntimeRecords reads a file of runtime events in whatever form it
// has: cimad's own (/run/log/cima/runtime.log: a header, then a JSON line for
// each event, the last of which may be torn), CEL-JSON, or records of the boot
// log's form (TCG_PCR_EVENT2, AAEL), with or without a boot log before them,
// whose own events are then left out. The first error ends it.
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
			for r, err := range UnverifiedCELRecords(in) {
				if err != nil {
					err = fmt.Errorf("runtime log: a line of CEL-JSON: %w", err)
				}
				if !yield(RuntimeRecord{RTMR: r.RTMR, Digest: r.Digest, Data: r.Content}, err) || err != nil {
					return
				}
			}
		default:
			readRuntimeRecords(in, yield)
		}
	}
}

// readRuntimeFile reads cimad's file behind its header.
func readRuntimeFile(in *bufio.Reader, yield func(RuntimeRecord, error) bool) {
	for n := 0; ; n++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return // what has no newline was never whole
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
	if err := json.Unmarshal(line, &form); err != nil {
		return RuntimeRecord{}, err
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
			return RuntimeRecord{}, errors.New("a register has 96 hex digits")
		}
		*v.to = (*[48]byte)(value)
	}
	return r, nil
}

// readRuntimeRecords reads records in the boot log's form.
func readRuntimeRecords(in io.Reader, yield func(RuntimeRecord, error) bool) {
	const most = 64 << 20
	raw, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && len(raw) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	if err != nil {
		yield(RuntimeRecord{}, fmt.Errorf("runtime log: %w", err))
		return
	}
	log, err := boot.Parse(raw)
	if err != nil { // records alone, without a log's header
		log, err = boot.Parse(append(boot.AppendHeader(nil), raw...))
	}
	if err != nil {
		yield(RuntimeRecord{}, fmt.Errorf("runtime log: in no known form: %w", err))
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
