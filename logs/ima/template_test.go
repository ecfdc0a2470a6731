package ima

import (
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/alg"
)

// kernelEntry is an entry as ima_init_template and ima_store_template make it. It follows
// the kernel's sources, independently of the code under test.
type kernelEntry struct {
	pcr      uint32
	template string
	fields   []kernelField
	violated bool
}

type kernelField struct {
	data  string // as hashed
	ascii string // as shown
}

func algoDigest(algo string, fill byte, n int) kernelField {
	d := strings.Repeat(string([]byte{fill}), n)
	return kernelField{algo + ":\x00" + d, algo + ":" + hex.EncodeToString([]byte(d))}
}

func text(s string) kernelField {
	s = strings.ReplaceAll(s, " ", "_") // ima_write_template_field_data
	return kernelField{s + "\x00", s}
}

func hexed(s string) kernelField { return kernelField{s, hex.EncodeToString([]byte(s))} }

func le(n, size int) string {
	b := binary.LittleEndian.AppendUint64(nil, uint64(n))
	return string(b[:size])
}

func number(n, s int) kernelField { return kernelField{le(n, s), fmt.Sprint(n)} }

func (k kernelEntry) hash(alg crypto.Hash) []byte {
	h := alg.New()
	if k.violated {
		return make([]byte, alg.Size())
	}
	for _, f := range k.fields {
		if k.template != "ima" {
			io.WriteString(h, le(len(f.data), 4))
		}
		io.WriteString(h, f.data)
	}
	if k.template == "ima" { // the name fills 256 bytes
		h.Write(make([]byte, 256-len(k.fields[1].data)))
	}
	return h.Sum(nil)
}

func (k kernelEntry) ascii(alg crypto.Hash) string {
	line := fmt.Sprintf("%2d %x %s", k.pcr, k.hash(alg), k.template)
	for _, f := range k.fields {
		line += " " + f.ascii
	}
	return line + "\n"
}

func (k kernelEntry) binary(alg crypto.Hash) string {
	var data string
	for i, f := range k.fields {
		if k.template == "ima" && i == 0 {
			data += f.data
		} else {
			data += le(len(f.data), 4) + f.data
		}
	}
	rec := le(int(k.pcr), 4) + string(k.hash(alg)) + le(len(k.template), 4) + k.template
	if k.template != "ima" {
		rec += le(len(data), 4)
	}
	return rec + data
}

const cgroupA = "/system.slice/docker-" + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + ".scope"

func everyTemplate() []kernelEntry {
	d, n := algoDigest("sha256", 7, 32), text("/usr/bin/true")
	return []kernelEntry{
		{10, "ima-ng", []kernelField{algoDigest("sha256", 1, 32), text("boot_aggregate")}, false},
		{10, "ima-sig", []kernelField{d, n, hexed("\x03\x02\x04signature")}, false},
		{10, "ima-sig", []kernelField{d, n, {}}, false}, // no signature: an empty field
		{10, "ima-ngv2", []kernelField{algoDigest("verity:sha256", 2, 32), n}, false},
		{10, "ima-sigv2", []kernelField{algoDigest("ima:sha512", 2, 64), n, hexed("sig")}, false},
		{10, "ima-buf", []kernelField{d, text("kernel_version"), hexed("6.16.0")}, false},
		{10, "ima-modsig", []kernelField{d, n, {}, algoDigest("sha256", 3, 32), hexed("pkcs7")}, false},
		{10, "evm-sig", []kernelField{d, n, hexed("evm"), text("security.ima|security.selinux"), hexed("\x01\x00\x00\x00"), hexed("v"), number(1000, 4), number(100, 4), number(0o100644, 2)}, false},
		{2, "ima-cgpath", []kernelField{text("/usr/bin/runc:swapper/0"), text(cgroupA), d, n}, false},
		{10, "ima-dep-cgn", []kernelField{text("/usr/bin/runc:swapper/0"), text("docker-x.scope"), d, n}, false},
		{10, "n-ng|d-ng|imode", []kernelField{n, d, number(7, 2)}, false},
		{10, "ima", []kernelField{{strings.Repeat("\x05", 20), strings.Repeat("05", 20)}, {"/bin/sh", "/bin/sh"}}, false},
		{10, "ima-ng", []kernelField{algoDigest("sha1", 0, 20), text("/var/log/wtmp")}, true},
	}
}

var hashes = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384}

func TestUnknownTemplateIsKept(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	r := NewReader(strings.NewReader(" 10 " + hash + " ima-new sha256:00 a b\n"))
	r.Check = true
	e, err := r.Next()
	if err != nil || e.Template() != "ima-new" || len(e.Fields()) != 1 || e.Fields()[0] != (Field{"raw", "sha256:00 a b"}) {
		t.Fatalf("%v, %v", e, err)
	}
	if r.Unchecked != 1 || r.Mismatched != 0 {
		t.Errorf("unchecked %d, mismatched %d", r.Unchecked, r.Mismatched)
	}
	if err := NewPCR(alg.SHA1, 10).Extend(e); err == nil {
		t.Error("a digest was made up for a bank that the log doesn't tell of")
	}
}
