package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// config has short limits on waiting, so that a hang shows soon.
const config = `[limits]
events_per_container = 1000000
quotes_per_minute = 1e6
quotes_burst = 100000
evidence_reply = 16777216
register_timeout = "2s"
quote_timeout = "5s"
[launch]
image_deadline = "3s"
[gate]
deadline = "1s"
[exec]
mode = "measure"
deadline = "1s"
[engines]
docker = %q
docker_exec_root = %q
[[access]]
allow = ["ExtendMeasurement"]
`

// configure writes the configuration. Each version gives another one; -1 gives
// a wrong one.
func (m *manager) configure(version int) error {
	text := fmt.Sprintf(config, m.path("engine.sock"), m.path("exec"))
	switch {
	case version < 0:
		text += "no such key = 1\n"
	case version > 0:
		text += fmt.Sprintf("[[system]]\n  path = \"/no/such/%d\"\n", version)
	}
	next := m.path("cimad.toml.new")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, m.path("cimad.toml"))
}

// install puts a program in place. Appended bytes make it another program for
// whatever measures it.
func (m *manager) install(from string, version int) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("%w: `make build` makes it", err)
	}
	if version > 0 {
		text = append(text, fmt.Sprint(version)...)
	}
	next := m.program + ".new"
	if err := os.WriteFile(next, text, 0o755); err != nil {
		return err
	}
	return os.Rename(next, m.program)
}

func (m *manager) startTD() error {
	m.td = exec.Command(m.program, "td", "--dir", m.path("td"), "--quote-delay", "5ms")
	if err := m.td.Start(); err != nil {
		return err
	}
	for range 1000 {
		text, _ := os.ReadFile(m.path("td/root.pem"))
		if block, _ := pem.Decode(text); block != nil { // it may be half written
			root, err := x509.ParseCertificate(block.Bytes)
			m.roots = []*x509.Certificate{root}
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("the simulated TD did not start")
}
