// Package vtpmtest answers: which TPM does a test ask?
//
// It runs swtpm, a TPM 2.0 in software, and prepares it as a cloud's firmware does.
package vtpmtest

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/vtpm"
)

// Machine is a swtpm with its state. It has banks of SHA-1, SHA-256, SHA-384 and SHA-512.
type Machine struct {
	t      testing.TB
	dir    string
	Socket string // takes one connection at a time
	swtpm  *exec.Cmd
}

// Start starts a swtpm that ends with the test. A machine without swtpm leaves the test
// out.
func Start(t testing.TB) *Machine {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("left out: no swtpm on this machine")
	}
	dir, err := os.MkdirTemp("", "cima-tpm-") // short, because a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{t: t, dir: dir, Socket: filepath.Join(dir, "tpm.sock")}
	t.Cleanup(func() {
		m.stop()
		os.RemoveAll(dir)
	})
	m.boot()
	return m
}

// Reboot resets the TPM, as a boot does: PCRs begin anew, NV indices and keys stay.
func (m *Machine) Reboot() {
	m.t.Helper()
	m.stop()
	m.boot()
}

func (m *Machine) stop() {
	m.swtpm.Process.Kill()
	m.swtpm.Wait()
}

func (m *Machine) boot() {
	m.t.Helper()
	os.Remove(m.Socket)
	m.swtpm = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+m.dir,
		"--server", "type=unixio,path="+m.Socket, "--ctrl", "type=unixio,path="+filepath.Join(m.dir, "ctrl.sock"),
		"--flags", "not-need-init,startup-clear")
	if err := m.swtpm.Start(); err != nil {
		m.t.Fatal(err)
	}
	for range 1000 {
		if conn, err := m.Open(); err == nil {
			conn.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatal("swtpm does not listen")
}

// Open connects, for vtpm.New.
func (m *Machine) Open() (io.ReadWriteCloser, error) { return net.Dial("unix", m.Socket) }

// TPM is this machine's. The connection is closed with the test.
func (m *Machine) TPM() *vtpm.TPM {
	tpm := vtpm.New(m.Open)
	m.t.Cleanup(func() { tpm.Close() })
	return tpm
}

// Command executes a command of this code by the empty password of its first handle, on a connection of
// its own, and returns the response code and what stands behind it. The TPM must have no
// other connection.
func (m *Machine) Command(code uint32, handles []uint32, parameters []byte) (rc uint32, answer []byte) {
	m.t.Helper()
	b := []byte{0x80, 0x02, 0, 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, code)
	for _, handle := range handles {
		b = binary.BigEndian.AppendUint32(b, handle)
	}
	b = append(b, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0)
	b = append(b, parameters...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	conn, err := m.Open()
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	conn.(net.Conn).SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write(b); err != nil {
		m.t.Fatal(err)
	}
	response := make([]byte, 4096)
	n, err := conn.Read(response)
	if err != nil || n < 10 {
		m.t.Fatalf("%d bytes: %v", n, err)
	}
	return binary.BigEndian.Uint32(response[6:]), response[10:n]
}

// done executes a command that must succeed.
func (m *Machine) done(code uint32, handles []uint32, parameters []byte) []byte {
	m.t.Helper()
	rc, answer := m.Command(code, handles, parameters)
	if rc != 0 {
		m.t.Fatalf("command %#x: %#x", code, rc)
	}
	return answer
}

const owner = 0x40000001

// MakeKey makes a restricted signing key of RSA-2048, and keeps it at this handle.
func (m *Machine) MakeKey(handle uint32) {
	m.t.Helper()
	public := []byte{0, 1, 0, 0x0b, 0, 5, 0, 0x72, 0, 0} // RSA, SHA-256, attributes, no policy
	public = append(public, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 0, 0)
	parameters := []byte{0, 4, 0, 0, 0, 0} // no password, no data
	parameters = append(binary.BigEndian.AppendUint16(parameters, uint16(len(public))), public...)
	parameters = append(parameters, 0, 0, 0, 0, 0, 0) // no outside info, no creation PCR
	made := m.done(0x131, []uint32{owner}, parameters)
	object := binary.BigEndian.Uint32(made)
	m.done(0x120, []uint32{owner, object}, binary.BigEndian.AppendUint32(nil, handle))
}

// MakeNV defines an NV index of the owner's, and writes content into it.
func (m *Machine) MakeNV(index uint32, content []byte) {
	m.t.Helper()
	public := binary.BigEndian.AppendUint32(nil, index)
	public = append(public, 0, 0x0b, 0x02, 0x06, 0x00, 0x06, 0, 0) // SHA-256, owner and auth read and write, NO_DA
	public = binary.BigEndian.AppendUint16(public, uint16(len(content)))
	parameters := append([]byte{0, 0}, binary.BigEndian.AppendUint16(nil, uint16(len(public)))...)
	m.done(0x12a, []uint32{owner}, append(parameters, public...))
	for at := 0; at < len(content); at += 512 {
		part := content[at:min(at+512, len(content))]
		parameters := append(binary.BigEndian.AppendUint16(nil, uint16(len(part))), part...)
		m.done(0x137, []uint32{owner, index}, binary.BigEndian.AppendUint16(parameters, uint16(at)))
	}
}
