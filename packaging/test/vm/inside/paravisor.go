package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/vtpm"
)

// What the paravisor of an Azure VM leaves in its TPM.
const (
	tpmPath   = "/dev/tpmrm0"
	azureAK   = 0x81000003
	azureHCL  = 0x01400001
	tpmOwner  = 0x40000001
	logPCR    = 13
	hostOfVM  = "169.254.169.254"
	snpReport = 0x4A0
)

// device is a connection to the kernel's TPM: one that blocks, because a read of another one gives
// nothing until the TPM has answered.
type device int

func openTPM() (io.ReadWriteCloser, error) {
	fd, err := syscall.Open(tpmPath, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	return device(fd), err
}

func (d device) Read(b []byte) (int, error)  { return syscall.Read(int(d), b) }
func (d device) Write(b []byte) (int, error) { return syscall.Write(int(d), b) }
func (d device) Close() error                { return syscall.Close(int(d)) }

// tpmCommand executes a command by the empty password of its first handle.
func tpmCommand(to io.ReadWriter, code uint32, handles []uint32, parameters []byte) (rc uint32, answer []byte, err error) {
	b := binary.BigEndian.AppendUint32([]byte{0x80, 0x02, 0, 0, 0, 0}, code)
	for _, handle := range handles {
		b = binary.BigEndian.AppendUint32(b, handle)
	}
	b = append(b, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0)
	b = append(b, parameters...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	if _, err := to.Write(b); err != nil {
		return 0, nil, err
	}
	response := make([]byte, 4096)
	n, err := to.Read(response)
	if err == nil && n < 10 {
		err = errors.New("a short answer")
	}
	if err != nil {
		return 0, nil, fmt.Errorf("TPM command %#x: %w", code, err)
	}
	return binary.BigEndian.Uint32(response[6:]), response[10:n], nil
}

// byRoot is a command that anybody with the device may try.
func byRoot(code uint32, handle uint32, parameters []byte) (rc uint32, err error) {
	conn, err := openTPM()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	rc, _, err = tpmCommand(conn, code, []uint32{handle}, parameters)
	return rc, err
}

// paravisor makes this VM one of Azure's: its TPM has a key and an HCL report, and a service at the host's
// address has the certificates. The hardware behind it is simulated; the TPM, its driver and all of cimad's
// units are not.
func paravisor(ctx context.Context) error {
	if err := makeKey(); err != nil {
		return err
	}
	tpm := vtpm.New(openTPM)
	modulus, err := tpm.RSA(ctx, azureAK)
	tpm.Close()
	if err != nil {
		return err
	}
	hcl, chain, err := hclReport(ctx, modulus)
	if err != nil {
		return err
	}
	if err := makeNV(hcl); err != nil {
		return err
	}
	return serveHost(ctx, chain)
}

// must executes a command that the TPM must not refuse.
func must(to io.ReadWriter, code uint32, handles []uint32, parameters []byte) ([]byte, error) {
	rc, answer, err := tpmCommand(to, code, handles, parameters)
	if err == nil && rc != 0 {
		err = fmt.Errorf("TPM command %#x: refused with %#x", code, rc)
	}
	return answer, err
}

// makeKey makes the key that quotes, and keeps it.
func makeKey() error {
	conn, err := openTPM()
	if err != nil {
		return err
	}
	defer conn.Close()
	public := []byte{0, 1, 0, 0x0b, 0, 5, 0, 0x72, 0, 0} // RSA, SHA-256, restricted, signs, no policy
	public = append(public, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 0, 0)
	parameters := binary.BigEndian.AppendUint16([]byte{0, 4, 0, 0, 0, 0}, uint16(len(public)))
	parameters = append(append(parameters, public...), 0, 0, 0, 0, 0, 0)
	made, err := must(conn, 0x131, []uint32{tpmOwner}, parameters) // CreatePrimary
	if err != nil || len(made) < 4 {
		return fmt.Errorf("no key was made: %w", err)
	}
	_, err = must(conn, 0x120, []uint32{tpmOwner, binary.BigEndian.Uint32(made)}, binary.BigEndian.AppendUint32(nil, azureAK)) // EvictControl
	return err
}

// makeNV keeps the HCL report.
func makeNV(hcl []byte) error {
	conn, err := openTPM()
	if err != nil {
		return err
	}
	defer conn.Close()
	index := binary.BigEndian.AppendUint32(nil, azureHCL)
	index = append(index, 0, 0x0b, 0x02, 0x06, 0x00, 0x06, 0, 0) // owner and index read and write, NO_DA
	index = binary.BigEndian.AppendUint16(index, uint16(len(hcl)))
	parameters := append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(index))), index...)
	if _, err := must(conn, 0x12a, []uint32{tpmOwner}, parameters); err != nil { // NV_DefineSpace
		return err
	}
	for at := 0; at < len(hcl); at += 512 {
		part := hcl[at:min(at+512, len(hcl))]
		parameters := append(binary.BigEndian.AppendUint16(nil, uint16(len(part))), part...)
		if _, err := must(conn, 0x137, []uint32{tpmOwner, azureHCL}, binary.BigEndian.AppendUint16(parameters, uint16(at))); err != nil { // NV_Write
			return err
		}
	}
	return nil
}

// hclReport is what the paravisor leaves in the TPM: a simulated SNP guest's report over a text that names the
// TPM's key. The root goes where the checks look for it.
func hclReport(ctx context.Context, modulus []byte) (hcl []byte, chain [][]byte, err error) {
	machine, err := sim.Boot(sim.Config{Platform: hw.TEESNP})
	if err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(rootPEM, machine.RootPEM(), 0o644); err != nil {
		return nil, nil, err
	}
	runtime := fmt.Appendf(nil, `{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":%q}],"vm-configuration":{"tpm-enabled":true},"user-data":%q}`,
		base64.RawURLEncoding.EncodeToString(modulus), strings.Repeat("0", 128))
	var data hw.ReportData
	sum := sha256.Sum256(runtime)
	copy(data[:], sum[:])
	quote, err := machine.Quote(ctx, data)
	if err != nil {
		return nil, nil, err
	}
	signed, err := hw.OpenSNP(quote)
	if err != nil {
		return nil, nil, err
	}
	hcl = append([]byte("HCLA\x01\x00\x00\x00"), make([]byte, 24)...)
	hcl = append(hcl, signed.Quote[:snpReport]...)
	for _, v := range []uint32{uint32(len(runtime)) + 20, 1, 2, 1, uint32(len(runtime))} { // of an SNP guest, by SHA-256
		hcl = binary.LittleEndian.AppendUint32(hcl, v)
	}
	return append(hcl, runtime...), signed.Certificates, nil
}

// serveHost is the host's metadata service, which has the certificates of SNP reports.
func serveHost(ctx context.Context, chain [][]byte) error {
	if _, err := command(ctx, "ip", "address", "replace", hostOfVM+"/32", "dev", "lo"); err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", hostOfVM+":80")
	if err != nil {
		return err
	}
	text := func(ders ...[]byte) (s string) {
		for _, der := range ders {
			s += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		}
		return s
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metadata/THIM/amd/certification" || r.Header.Get("Metadata") != "true" {
			http.NotFound(w, r)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"vcekCert": text(chain[0]), "certificateChain": text(chain[1:]...)})
	})}
	go server.Serve(listener) // as long as this program runs
	return nil
}
