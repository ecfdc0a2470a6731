package ima

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// AppendTemplateData appends the bytes that the kernel hashed for this entry: each field
// after its length as a little-endian u32. For the template "ima" they are the digest and
// the name, without lengths, and zeros up to 256 bytes
// (ima_calc_field_array_hash_tfm in security/integrity/ima/ima_crypto.c). It fails where
// the fields are unknown or don't fit the template.
func (e *Entry) AppendTemplateData(b []byte) ([]byte, error) {
	if e.binary && !e.oldForm {
		return append(b, e.data...), nil
	}
	if size := len(b) + len(e.data) + 64; size > cap(b) { // in bytes most fields are shorter than as text; lengths are added
		b = append(make([]byte, 0, max(size, cap(b)+cap(b)/4)), b...) // a quarter more, because entries may grow
	}
	err := e.eachField(func(id string, kind fieldKind, raw []byte) (err error) {
		if e.oldForm {
			b, err = e.appendOld(b, id, raw)
			return err
		}
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		if b, err = appendFromText(b, kind, raw); err == nil {
			binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
		}
		return err
	})
	return b, err
}

// templateData is valid until the next call: a reader's entries share one buffer.
func (e *Entry) templateData() ([]byte, error) {
	data, err := e.AppendTemplateData(e.scratch[:0])
	e.scratch = data
	return data, err
}

func (e *Entry) appendOld(b []byte, id string, raw []byte) ([]byte, error) {
	if id == "d" && e.binary {
		return append(b, raw...), nil
	}
	if id == "d" {
		return appendHex(b, raw)
	}
	if len(raw) > imaNameMax {
		return b, errFields
	}
	var padded [imaNameMax + 1]byte
	copy(padded[:], raw)
	return append(b, padded[:]...), nil
}

// appendFromText appends the bytes that the ASCII form of a field shows.
func appendFromText(b []byte, kind fieldKind, text []byte) ([]byte, error) {
	switch kind {
	case fieldText:
		return append(append(b, text...), 0), nil
	case fieldDigest, fieldHex:
		return appendHex(b, text)
	case fieldAlgoDigest:
		if len(text) == 0 {
			return b, nil
		}
		algo := bytes.LastIndexByte(text, ':')
		b = append(append(b, text[:max(algo, 0)]...), ':', 0)
		return appendHex(b, text[algo+1:])
	case fieldU32, fieldU16:
		n, ok := decimal(text, 1<<32-1)
		if !ok || kind == fieldU16 && n > 1<<16-1 {
			return b, errFields
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		if kind == fieldU32 {
			b = binary.LittleEndian.AppendUint16(b, uint16(n>>16))
		}
		return b, nil
	}
	return b, errUnknownFields
}

func appendHex(b, text []byte) ([]byte, error) {
	b, err := hex.AppendDecode(b, text)
	if err != nil {
		return b, errFields
	}
	return b, nil
}

// decimal reads a decimal number up to limit.
func decimal(b []byte, limit uint64) (uint64, bool) {
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' || n > limit {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	return n, len(b) > 0 && n <= limit
}

// textFromData writes a field of a binary log as the ASCII log does.
func textFromData(kind fieldKind, data []byte) string {
	switch kind {
	case fieldText:
		return string(bytes.TrimSuffix(data, []byte{0}))
	case fieldAlgoDigest:
		if algo, digest, ok := bytes.Cut(data, []byte{':', 0}); ok && len(algo) > 0 {
			return string(algo) + ":" + hex.EncodeToString(digest)
		} else if ok {
			return hex.EncodeToString(digest)
		}
	case fieldU32, fieldU16:
		if len(data) == 4 {
			return strconv.FormatUint(uint64(binary.LittleEndian.Uint32(data)), 10)
		}
		if len(data) == 2 {
			return strconv.FormatUint(uint64(binary.LittleEndian.Uint16(data)), 10)
		}
	}
	return hex.EncodeToString(data)
}
