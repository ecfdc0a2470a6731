package logs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/cima-project/cima/logs/alg"
	"github.com/cima-project/cima/logs/boot"
)

// CELRecord is an event in the terms of the TCG's Canonical Event Log format
// 1.0. Runtime events become records of type EvEventTag on RTMR3, and their
// digests stay the same.
type CELRecord struct {
	Number uint64   // from 0, without gaps
	RTMR   int      // 0–3
	Digest [48]byte // SHA-384
	Type   uint32   // of the boot log's event types; written only
	Data   []byte   // written only

	ContentType string // "pcclient_std", "systemd"; read only
	Content     []byte // its JSON; read only
}

// AppendCELJSON appends the record as one JSON object (CEL 1.0 section 5.3),
// with the member "rtmr" in the place of "pcr", as systemd writes it.
func AppendCELJSON(b []byte, r CELRecord) []byte {
	kind := strconv.FormatUint(uint64(r.Type), 10)
	if name := boot.TypeName(r.Type); strings.HasPrefix(name, "EV_") {
		kind = `"` + name + `"`
	}
	return fmt.Appendf(b, `{"recnum":%d,"rtmr":%d,"digests":[{"hashAlg":"sha384","digest":"%x"}],`+
		`"content_type":"pcclient_std","content":{"event_type":%s,"event_data":"%x"}}`,
		r.Number, r.RTMR, r.Digest, kind, r.Data)
}

// Types of the CEL's TLV encoding (section 5.1); 108 is Google's for the
// registers of confidential computing, with RTMR3 = 4.
const (
	celRecNum   = 0
	celCCMR     = 108
	celDigests  = 3
	celPCClient = 5
)

// AppendCELTLV appends the record in the CEL's TLV encoding: each a type byte,
// a length as a big-endian u32, and the value.
func AppendCELTLV(b []byte, r CELRecord) []byte {
	b = appendTLV(b, celRecNum, binary.BigEndian.AppendUint64(nil, r.Number))
	b = appendTLV(b, celCCMR, []byte{byte(r.RTMR + 1)})
	b = appendTLV(b, celDigests, appendTLV(nil, byte(alg.SHA384), r.Digest[:]))
	content := appendTLV(nil, 0, binary.BigEndian.AppendUint32(nil, r.Type))
	return appendTLV(b, celPCClient, appendTLV(content, 1, r.Data))
}

func appendTLV(b []byte, kind byte, value []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, kind), uint32(len(value)))
	return append(b, value...)
}

// Bounds of a record as JSON: the least holds one digest.
const (
	maxCELRecord = 64 << 10
	minCELRecord = 2 * 48
	maxCELName   = 64 // of a member: the longest that means something has 12 bytes
)

// UnverifiedCELRecords reads a log of CEL-JSON records, one per line, each
// perhaps preceded by a record separator (RFC 7464): the form of systemd's
// /run/log/systemd/cc-measure.log. A line that is no record is yielded as an
// error, and reading goes on; it ends with the log or where it can't be read.
// Only records of a register that a TD has, with a SHA-384 digest, count.
func UnverifiedCELRecords(src io.Reader) iter.Seq2[CELRecord, error] {
	return func(yield func(CELRecord, error) bool) {
		lines := bufio.NewScanner(src)
		lines.Buffer(nil, maxCELRecord)
		var j celJSON
		for lines.Scan() {
			line := bytes.Trim(lines.Bytes(), "\x1e \t\r")
			if len(line) == 0 {
				continue
			}
			if !yield(j.parse(line)) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(CELRecord{}, fmt.Errorf("event log: %w", err))
		}
	}
}

// rtmrOf maps a PCR to the RTMR that stands for it on a TD, -1 where none does
// (UEFI 2.10 section 38.4.1). PCR 0 is MRTD.
func rtmrOf(pcr uint32) int {
	switch {
	case pcr == 1 || pcr == 7:
		return 0
	case pcr >= 2 && pcr <= 6:
		return 1
	case pcr >= 8 && pcr <= 15:
		return 2
	}
	return -1
}
