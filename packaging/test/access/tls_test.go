package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const page = "app" // what a container of the image app serves

// meeting is a volume where containers meet, for they have no network here. What it holds
// is what anybody may know: sockets, policies, roots.
type meeting struct {
	*stage
	path string // on the host
}

func (s *stage) meeting() *meeting {
	s.Helper()
	if _, err := s.docker.Do(s.Context(), "", "volume", "create", "meet"); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { s.docker.Do(context.Background(), "", "volume", "rm", "-f", "meet") })
	path, err := s.docker.Do(s.Context(), "", "volume", "inspect", "--format", "{{.Mountpoint}}", "meet")
	if err != nil {
		s.Fatal(err)
	}
	m := &meeting{s, path}
	text, err := os.ReadFile(root)
	if err != nil {
		s.Fatal(err)
	}
	m.leave("root.pem", string(text))
	return m
}

func (m *meeting) leave(name, text string) {
	m.Helper()
	if err := os.WriteFile(filepath.Join(m.path, name), []byte(text), 0o644); err != nil {
		m.Fatal(err)
	}
}

// comes is a container that waits, and does what docker exec has it do.
func (m *meeting) comes(image string, seconds int) *container {
	m.Helper()
	k := m.start(image, []string{"-v", "meet:/meet"}, "/bin/sleep", strconv.Itoa(seconds))
	m.until(k.name, func() bool { return m.inside(k, "", "/cimactl", "whoami").code == 0 })
	return k
}

// serves is a container whose program knows nothing of CIMA. at is its socket, as the host
// names it and as containers do.
func (m *meeting) serves(image, name string, flags ...string) (k *container, host, at string) {
	m.Helper()
	host, at = "unix:"+filepath.Join(m.path, name), "unix:/meet/"+name
	line := append([]string{"/cimactl", "tls", "serve", "--listen", at, "--forward", "127.0.0.1:8080"}, flags...)
	k = m.start(image, []string{"-v", "meet:/meet"}, append(line, "--", "/bin/httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/www")...)
	m.until(name+" of "+k.name, func() bool { return listens(strings.TrimPrefix(host, "unix:")) })
	return k, host, at
}

// trusting is the text of a policy that trusts one container.
func (m *meeting) trusting(k *container) string {
	m.Helper()
	nonce := strings.TrimSpace(m.cimactl("nonce").well())
	path := m.policy(k.name+".toml", m.inside(k, "", "/cimactl", "evidence", "--nonce", nonce).well())
	text, err := os.ReadFile(path)
	if err != nil {
		m.Fatal(err)
	}
	return string(text)
}

// connecting listens for programs that know nothing of CIMA, and returns the port's address.
func (s *stage) connecting(words ...string) (address string, said *output) {
	s.Helper()
	c := exec.CommandContext(context.Background(), filepath.Join(s.bin, "cimactl"), append([]string{"tls", "connect", "--listen", "127.0.0.1:0", "--trust-root", root}, words...)...)
	c.Dir, said = s.dir, new(output)
	c.Stderr = said
	if err := c.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { c.Process.Kill(); c.Wait() })
	s.until("cimactl tls connect", func() bool { return strings.Contains(said.String(), "connections to ") })
	_, rest, _ := strings.Cut(said.String(), "connections to ")
	return strings.Fields(rest)[0], said
}

func (s *stage) curl(words ...string) ran {
	s.Helper()
	return s.run("", "curl", append([]string{"-s", "--max-time", "30"}, words...)...)
}

// got fails unless curl got the page.
func (r ran) got(said *output) {
	r.stage.Helper()
	if r.out != page || r.code != 0 {
		r.stage.Errorf("%s: %q, exit %d, want the page: %s%s", r.words, r.out, r.code, r.stderr, said)
	}
}

// nothing fails if curl got anything, or if a program didn't say why.
func (r ran) nothing(said *output, want string) {
	r.stage.Helper()
	if r.out != "" || r.code == 0 {
		r.stage.Errorf("%s: %q, exit %d, want nothing", r.words, r.out, r.code)
	}
	r.stage.until(want, func() bool { return strings.Contains(said.String(), want) })
}

// curl reaches the right container through `tls connect`, and no other one. A client that
// speaks TLS alone gets nothing.
func TestTLS(t *testing.T) {
	m := newStage(t).meeting()
	right, at, _ := m.serves(app, "right.sock")
	m.file("policy.toml", m.trusting(right))
	address, said := m.connecting(at, "--policy", "policy.toml")
	for range 3 {
		m.curl("http://" + address + "/").got(said)
	}
	image, launch := "", ""
	_, image, _ = m.serves(other, "image.sock")
	_, launch, _ = m.serves(app, "launch.sock")
	for _, at := range []string{image, launch} {
		address, said := m.connecting(at, "--policy", "policy.toml")
		m.curl("http://"+address+"/").nothing(said, "authentic, not trusted: caller-values")
	}
	m.cimactl("tls", "connect", launch, "--policy", "policy.toml", "--trust-root", root).refused(4, "authentic, not trusted: caller-values", "launch digest")

	path := strings.TrimPrefix(at, "unix:")
	m.curl("-k", "--unix-socket", path, "https://right/").nothing(right.stderr, "was refused: tls: client requested unsupported application protocols")
	plain := m.run("GET / HTTP/1.0\r\n\r\n", "openssl", "s_client", "-quiet", "-unix", path, "-alpn", "cima-tls/1")
	if strings.Contains(plain.out, page) || strings.Contains(plain.out, "HTTP") {
		t.Errorf("a client that proves and asks nothing got %q", plain.out)
	}
	m.until("the refusal", func() bool { return strings.Contains(right.stderr.String(), "which cima-tls/1 doesn't have") })
	m.curl("http://" + address + "/").got(said)
}

const get = "GET /index.html HTTP/1.0\r\n\r\n"

// Containers at both ends prove themselves, or nothing is served.
func TestTLSMutual(t *testing.T) {
	m := newStage(t).meeting()
	right, stranger := m.comes(app, 1000), m.comes(app, 1001)
	m.leave("clients.toml", m.trusting(right))
	server, _, at := m.serves(app, "s.sock", "--policy", "/meet/clients.toml", "--trust-root", "/meet/root.pem")
	m.leave("server.toml", m.trusting(server))
	_, _, elsewhere := m.serves(other, "e.sock", "--policy", "/meet/clients.toml", "--trust-root", "/meet/root.pem")

	connect := func(k *container, at string, more ...string) ran {
		t.Helper()
		return m.inside(k, get, append([]string{"/cimactl", "tls", "connect", at, "--policy", "/meet/server.toml", "--trust-root", "/meet/root.pem"}, more...)...)
	}
	if got := connect(right, at, "--prove").well(); !strings.HasSuffix(got, "\r\n\r\n"+page) {
		t.Errorf("the right client got %q", got)
	}
	connect(right, at).refused(1, "asks for evidence of this one, which has none to give")
	connect(stranger, at, "--prove").refused(1, "closed the session", "log says why")
	m.until("the refusal", func() bool {
		return strings.Contains(server.stderr.String(), "was refused: authentic, not trusted: caller-values")
	})
	connect(right, elsewhere, "--prove").refused(4, "authentic, not trusted: caller-values")
	// A process of the host has no evidence of a container to give.
	m.file("server.toml", m.trusting(server))
	m.cimactl("tls", "connect", "unix:"+m.path+"/s.sock", "--policy", "server.toml", "--trust-root", root, "--prove").refused(1, "closed the session")
}

// With --client-ca a client needs a certificate before it is shown evidence.
func TestTLSClientCA(t *testing.T) {
	m := newStage(t).meeting()
	ours, theirs := m.authority("ours"), m.authority("theirs")
	m.leave("ca.pem", ours.text())
	server, at, _ := m.serves(app, "s.sock", "--client-ca", "/meet/ca.pem")
	m.file("policy.toml", m.trusting(server))
	known, unknown := ours.signs(m.stage, "known"), theirs.signs(m.stage, "unknown")
	address, said := m.connecting(append([]string{at, "--policy", "policy.toml"}, known...)...)
	m.curl("http://" + address + "/").got(said)
	address, said = m.connecting(append([]string{at, "--policy", "policy.toml"}, unknown...)...)
	m.curl("http://"+address+"/").nothing(said, "tls: ")
	address, said = m.connecting(at, "--policy", "policy.toml")
	m.curl("http://"+address+"/").nothing(said, "tls: certificate required")
}

// authority signs clients' certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	der  []byte
}

func (s *stage) authority(name string) *authority {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	a := &authority{key: key}
	a.cert = template(name)
	a.cert.IsCA, a.cert.BasicConstraintsValid, a.cert.KeyUsage = true, true, x509.KeyUsageCertSign
	if a.der, err = x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key); err != nil {
		s.Fatal(err)
	}
	return a
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
}

func (a *authority) text() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.der}))
}

// signs returns the flags of a client's certificate.
func (a *authority) signs(s *stage, name string) []string {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	client := template(name)
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, client, a.cert, key.Public(), a.key)
	if err != nil {
		s.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.Fatal(err)
	}
	return []string{
		"--client-cert", s.file(name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		"--client-key", s.file(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))),
	}
}
