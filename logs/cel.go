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

// CELRecord is a record of the TCG's Canonical Event Log (CEL) 1.0. Runtime events become
// records of type boot.EvEventTag on RTMR3, with the same digests.
type CELRecord struct {
	Number uint64   // from 0, without gaps
	RTMR   int      // 0–3
	Digest [48]byte // SHA-384

	// The content of a record that AppendCELJSON or AppendCELTLV writes. A record
	// that was read doesn't have it.
	Type uint32 // TCG event type
	Data []byte // event data

	// The content of a record that was read.
	contentType string // "pcclient_std", "systemd"
	content     []byte // JSON
}

// AppendCELJSON appends the record as one JSON object (CEL 1.0 section 5.3), with the
// member "rtmr" instead of "pcr", as systemd does. It appends no newline.
func AppendCELJSON(b []byte, r CELRecord) []byte {
	kind := strconv.FormatUint(uint64(r.Type), 10)
	if name := boot.TypeName(r.Type); strings.HasPrefix(name, "EV_") {
		kind = `"` + name + `"`
	}
	return fmt.Appendf(b, `{"recnum":%d,"rtmr":%d,"digests":[{"hashAlg":"sha384","digest":"%x"}],`+
		`"content_type":"pcclient_std","content":{"event_type":%s,"event_data":"%x"}}`,
		r.Number, r.RTMR, r.Digest, kind, r.Data)
}

// Types of the CEL's TLV encoding (CEL 1.0 section 5.1). 108 is not the TCG's: Google's
// go-eventlog uses it for measurement registers, where 4 is RTMR3.
const (
	celRecNum   = 0
	celCCMR     = 108
	celDigests  = 3
	celPCClient = 5
)

// AppendCELTLV appends the record in the CEL's TLV encoding (CEL 1.0 section 5.1): each
// field has a type byte, a length as a big-endian u32, and the value.
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

// Bounds of a record in JSON, in bytes.
const (
	maxCELRecord = 64 << 10
	minCELRecord = 2 * 48 // the hex digits of one digest
)

// unverifiedCELRecords reads a log of CEL-JSON records (CEL 1.0 section 5.3), one a line,
// with or without a record separator (RFC 7464) before each: the form of systemd's
// /run/log/systemd/cc-measure.log. A record must name a register that a TD has and have
// one SHA-384 digest. A line that is no record is yielded as an error, and reading goes
// on. It ends at the log's end, or after the source's error.
func unverifiedCELRecords(src io.Reader) iter.Seq2[CELRecord, error] {
	return func(yield func(CELRecord, error) bool) {
		lines := bufio.NewScanner(src)
		lines.Buffer(nil, maxCELRecord)
		var c celReader
		for lines.Scan() {
			line := bytes.Trim(lines.Bytes(), "\x1e \t\r")
			if len(line) == 0 {
				continue
			}
			if !yield(c.read(line)) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(CELRecord{}, fmt.Errorf("event log: %w", err))
		}
	}
}

// rtmrOf is the RTMR to which a PCR maps on a TD (UEFI 2.10 section 38.4.1), -1 where it
// maps to none. PCR 0 maps to MRTD.
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
