//go:build linux

package hw

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw/vtpm"
	"github.com/cima-project/cima/hw/vtpm/vtpmtest"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/pcr"
)

// hclOf is an HCL report over this runtime data: of a TD, or of an SNP guest.
func hclOf(kind uint32, runtime []byte) []byte {
	b := make([]byte, hclRuntime, hclRuntime+len(runtime)+64)
	copy(b, "HCLA\x02\x00\x00\x00")
	data := runtimeData(runtime)
	at := map[uint32]int{hclTDX: reportData, hclSNP: snpData}[kind]
	copy(b[hclReport+at:], data[:])
	copy(b[hclReport+map[uint32]int{hclTDX: reportMRTD, hclSNP: snpMeasurement}[kind]:], "measured")
	for n, v := range []uint32{uint32(len(runtime)) + 20, 1, kind, 1, uint32(len(runtime))} {
		binary.LittleEndian.PutUint32(b[hclRequest+4*n:], v)
	}
	return append(append(b, runtime...), make([]byte, 64)...)
}

func runtimeOf(modulus []byte) []byte {
	return fmt.Appendf(nil, `{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":%q},{"kid":"HCLEkPub","kty":"RSA","n":"AQ"}],"vm-configuration":{"secure-boot":true},"user-data":"00"}`, base64.RawURLEncoding.EncodeToString(modulus))
}

// host answers as cima-imds does: with quotes by a key that nobody trusts.
type host struct {
	asked int
	fails error
	lies  bool
}

func (h *host) Quote(_ context.Context, report []byte) ([]byte, error) {
	h.asked++
	if h.fails != nil {
		return nil, h.fails
	}
	b := make([]byte, quoteHeader+quoteBody10)
	binary.LittleEndian.PutUint16(b, 4)
	binary.LittleEndian.PutUint32(b[4:], teeTDX)
	copy(b[quoteHeader+bodyData:], report[reportData:][:64])
	copy(b[quoteHeader+bodyMRTD:], report[reportMRTD:][:48])
	if h.lies {
		b[quoteHeader+bodyData] ^= 1
	}
	return append(b, 1, 0, 0, 0, 'S'), nil
}

func (h *host) Certificates(context.Context) ([][]byte, error) {
	h.asked++
	return [][]byte{[]byte("VCEK"), []byte("ASK"), []byte("ARK")}, h.fails
}

// azureMachine is a machine of Azure's: a tree of the kernel's files, and a real TPM, whose
// commands go through the code for the device.
func azureMachine(t *testing.T, kind uint32) (*vtpmtest.Machine, Options, *host) {
	t.Helper()
	machine := vtpmtest.Start(t)
	machine.MakeKey(azureKey)
	probe := machine.TPM()
	modulus, err := probe.RSA(t.Context(), azureKey)
	if err != nil {
		t.Fatal(err)
	}
	probe.Close()
	machine.MakeNV(azureIndex, hclOf(kind, runtimeOf(modulus)))
	dir := t.TempDir()
	for path, content := range map[string]string{
		"dev/tpmrm0":                                        "",
		"sys/class/dmi/id/chassis_asset_tag":                azureTag + "\n",
		"sys/kernel/security/tpm0/binary_bios_measurements": "a log",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := &host{}
	return machine, Options{
		TDXOptions: TDXOptions{DevRoot: filepath.Join(dir, "dev"), SysRoot: filepath.Join(dir, "sys")},
		PCR:        13, OpenTPM: func() (io.ReadWriteCloser, error) { return throughDevice(t, machine) }, Endorser: h,
	}, h
}

// throughDevice is a connection by a descriptor, as that of /dev/tpmrm0 is one.
func throughDevice(t *testing.T, machine *vtpmtest.Machine) (io.ReadWriteCloser, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	conn, err := machine.Open()
	if err != nil {
		return nil, err
	}
	go func() {
		defer conn.Close()
		other := tpmDevice{pair[1]}
		defer other.Close()
		b := make([]byte, 4096)
		for {
			n, err := other.Read(b)
			if err != nil {
				return
			}
			if _, err := conn.Write(b[:n]); err != nil {
				return
			}
			if n, err = conn.Read(b); err != nil {
				return
			}
			if _, err := other.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	d := tpmDevice{pair[0]}
	t.Cleanup(func() { unix.Shutdown(pair[1], unix.SHUT_RDWR) })
	return d, nil
}

// On Azure the vTPM signs, the log lives in its PCR, and the hardware's report names its key.
func TestAzure(t *testing.T) {
	for _, c := range []struct {
		kind uint32
		tee  string
	}{{hclTDX, TEEAzureTDX}, {hclSNP, TEEAzureSNP}} {
		t.Run(c.tee, func(t *testing.T) {
			_, options, h := azureMachine(t, c.kind)
			tee, err := Detect(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			if want := (Parts{c.tee, logs.AnchorPCR, BootLogTPM}); tee.Parts() != want {
				t.Fatalf("%+v, must be %+v", tee.Parts(), want)
			}
			event := Digest(sha512.Sum384([]byte("event")))
			before, err := tee.Registers(t.Context())
			if err != nil || string(before.MRTD[:8]) != "measured" || before.RTMR != [4]Digest{} {
				t.Fatalf("%+v, %v", before, err)
			}
			if err := tee.Extend(t.Context(), event); err != nil {
				t.Fatal(err)
			}
			after, err := tee.Registers(t.Context())
			if err != nil || after.PCR != before.PCR.Extend(event) {
				t.Errorf("PCR %v after %v: %v", after.PCR, before.PCR, err)
			}
			h.fails = errors.New("no host")
			if _, err := tee.Quote(t.Context(), ReportData{1}); err == nil {
				t.Error("a quote without what the hardware signed")
			}
			h.fails = nil
			for n := range byte(3) {
				data := ReportData{n}
				answer, err := tee.Quote(t.Context(), data)
				if err != nil {
					t.Fatal(err)
				}
				s, err := tee.Open(answer)
				if err != nil {
					t.Fatal(err)
				}
				over := sha512.Sum384(data[:])
				if !bytes.Contains(s.TPMQuote, over[:]) || !after.PCR.Holds(s.Registers.PCR) || s.Registers.MRTD != after.MRTD || !bytes.Contains(s.RuntimeData, []byte("HCLAkPub")) {
					t.Errorf("%+v", s)
				}
				if (c.kind == hclSNP) != (len(s.Certificates) == 3) {
					t.Errorf("%d certificates", len(s.Certificates))
				}
			}
			if h.asked != 2 {
				t.Errorf("the host was asked %d times, must be twice: once it failed", h.asked)
			}
			if log, err := tee.BootLog(); err != nil || string(log) != "a log" {
				t.Errorf("boot log %q, %v", log, err)
			}
		})
	}
}

// A host that quotes another report, a key that the report does not name, a vTPM without a report: no evidence.
func TestAzureRefuses(t *testing.T) {
	_, options, h := azureMachine(t, hclTDX)
	h.lies = true
	tee, err := Detect(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tee.Quote(t.Context(), ReportData{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a quote of another report: %v", err)
	}

	machine, options, _ := azureMachine(t, hclTDX)
	machine.Command(0x120, []uint32{0x40000001, azureKey}, binary.BigEndian.AppendUint32(nil, azureKey)) // evicted
	machine.MakeKey(azureKey + 1)
	tee, err = Detect(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tee.Quote(t.Context(), ReportData{}); err == nil {
		t.Error("a quote without its key")
	}

	other := vtpmtest.Start(t)
	other.MakeKey(azureKey)
	other.MakeNV(azureIndex, hclOf(hclTDX, runtimeOf(bytes.Repeat([]byte{9}, 256))))
	options.OpenTPM = other.Open
	if tee, err = Detect(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	if _, err := tee.Quote(t.Context(), ReportData{}); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "the key") {
		t.Errorf("a key that the report does not name: %v", err)
	}

	bare := vtpmtest.Start(t)
	options.OpenTPM = bare.Open
	if _, err := Detect(t.Context(), options); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a VM that is not confidential: %v", err)
	}
}

// The doctor says which platform it found, and why.
func TestDiagnose(t *testing.T) {
	_, options, _ := azureMachine(t, hclSNP)
	r := Diagnose(t.Context(), options)
	if r.Platform != TEEAzureSNP || r.Registers != byPCR || r.Extend != byPCR || r.BootLog != byTPMLog || len(r.Checks) != 4 || !strings.Contains(r.Why, "an SNP guest") {
		t.Errorf("%+v", r)
	}
	bare := vtpmtest.Start(t)
	options.OpenTPM = bare.Open
	if r := Diagnose(t.Context(), options); r.Platform != "" || r.Quote != "" || len(r.Checks) != 1 || !strings.Contains(r.Checks[0].Advice, "no confidential VM") {
		t.Errorf("%+v", r)
	}
	for device, want := range map[string]string{"tdx_guest": TEETDX, "sev-guest": TEESNP, "tpmrm0": "", "other": ""} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, device), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r := Diagnose(t.Context(), Options{TDXOptions: TDXOptions{DevRoot: dir, SysRoot: dir, ProcRoot: dir, EtcRoot: dir}})
		if r.Platform != want || r.Why == "" || r.Quote != "" {
			t.Errorf("with %s: %+v", device, r)
		}
	}
}

// Each byte of an HCL report that counts is held by the hash, or refused.
func TestReadHCL(t *testing.T) {
	good := hclOf(hclTDX, runtimeOf([]byte{1, 2, 3}))
	h, err := readHCL(good)
	if err != nil || h.tee != TEEAzureTDX || !bytes.Equal(h.modulus, []byte{1, 2, 3}) || len(h.report) != reportSize {
		t.Fatalf("%+v, %v", h, err)
	}
	for at := range good {
		changed := bytes.Clone(good)
		changed[at] ^= 1
		got, err := readHCL(changed)
		bound := at < 4 || at >= hclReport+reportData && at < hclReport+reportData+64 || at >= hclRequest && at < hclRequest+4 || at >= hclRequest+8 && at < len(good)-64
		if bound != (err != nil) {
			t.Errorf("byte %d changed: %v", at, err)
		}
		if err == nil && !bytes.Equal(got.runtime, h.runtime) {
			t.Errorf("byte %d changed the runtime data", at)
		}
	}
	for _, runtime := range []string{`{}`, `{"keys":[]}`, `{"keys":[{"kid":"HCLAkPub","kty":"EC","n":"AQ"}]}`, `{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":"AQ"},{"kid":"HCLAkPub","kty":"RSA","n":"AQ"}]}`, `{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":""}]}`, `x`} {
		if _, err := readHCL(hclOf(hclTDX, []byte(runtime))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", runtime, err)
		}
	}
}

func FuzzReadHCL(f *testing.F) {
	f.Add(hclOf(hclTDX, runtimeOf([]byte{1, 2, 3})))
	f.Add(hclOf(hclSNP, runtimeOf([]byte{1, 2, 3})))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHCL(b)
		if err != nil {
			return
		}
		if sum := sha256.Sum256(h.runtime); !bytes.Contains(h.report, sum[:]) {
			t.Error("a report over something else")
		}
	})
}

// attestOver is a TPM's attestation over these values of PCRs.
func attestOver(values []byte) []byte {
	digest := sha256.Sum256(values)
	b := []byte("\xff\x54\x43\x47\x80\x18\x00\x00\x00\x00")
	b = append(b, make([]byte, 8+4+4+1+8)...)
	b = append(b, 0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff, 0, 32)
	return append(b, digest[:]...)
}

func TestOpenVTPM(t *testing.T) {
	runtime := runtimeOf([]byte{1})
	report := hclOf(hclSNP, runtime)[hclReport:][:snpReport]
	values := make([]byte, 24*32)
	values[13*32] = 7
	whole := Signed{Quote: report, RuntimeData: runtime, TPMQuote: attestOver(values), TPMSignature: []byte("signature"), PCRs: values, Certificates: [][]byte{[]byte("VCEK")}}
	answer := JoinVTPM(whole)
	s, err := OpenVTPM(answer, TEEAzureSNP, 13)
	if want := (pcr.Value{}).WithSHA256([32]byte{7}); err != nil || s.Registers.PCR != want || string(s.TPMSignature) != "signature" || len(s.Certificates) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := vtpm.ReadAttest(whole.TPMQuote); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Signed){
		"other runtime data": func(s *Signed) { s.RuntimeData = append(bytes.Clone(runtime), ' ') },
		"other values":       func(s *Signed) { s.PCRs = make([]byte, 24*32) },
		"fewer values":       func(s *Signed) { s.PCRs = values[:32] },
		"a longer report":    func(s *Signed) { s.Quote = append(bytes.Clone(report), 0) },
		"no attestation":     func(s *Signed) { s.TPMQuote = nil },
		"nine certificates":  func(s *Signed) { s.Certificates = make([][]byte, 9) },
	} {
		changed := whole
		change(&changed)
		if _, err := OpenVTPM(JoinVTPM(changed), TEEAzureSNP, 13); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range answer {
		if s, err := OpenVTPM(answer[:n], TEEAzureSNP, 13); err == nil && len(s.Certificates) != 0 {
			t.Errorf("cut to %d bytes", n)
		}
	}
	for _, tee := range []string{TEEAzureTDX, TEESNP, TEETDX, ""} {
		if _, err := OpenVTPM(answer, tee, 13); err == nil {
			t.Errorf("opened as %q", tee)
		}
	}
}

func FuzzOpenVTPM(f *testing.F) {
	values := make([]byte, 24*32)
	runtime := runtimeOf([]byte{1})
	f.Add(JoinVTPM(Signed{Quote: hclOf(hclSNP, runtime)[hclReport:][:snpReport], RuntimeData: runtime, TPMQuote: attestOver(values), PCRs: values}))
	f.Fuzz(func(t *testing.T, answer []byte) {
		for _, tee := range []string{TEEAzureTDX, TEEAzureSNP} {
			if s, err := OpenVTPM(answer, tee, 13); err == nil && s.Registers.PCR.None() {
				t.Error("no PCR")
			}
		}
	})
}
