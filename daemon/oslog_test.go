package daemon

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/ima"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/form"
)

// fakeIMA is a kernel that extends RTMR2 for its IMA log.
type fakeIMA struct {
	f     *fixture
	lines []string
}

func (k *fakeIMA) write() {
	k.f.t.Helper()
	for name, text := range map[string]string{
		"binary_runtime_measurements": strings.Join(k.lines, ""), // the reader accepts either form
		"runtime_measurements_count":  fmt.Sprintln(len(k.lines)),
	} {
		file, err := os.OpenFile(filepath.Join(k.f.imaDir, name), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			k.f.t.Fatal(err)
		}
		file.WriteString(text)
		file.Close()
	}
}

// measure adds an entry as kernels with the template ima-cgpath do: first to
// the list, then to the register.
func (k *fakeIMA) measure(cgroup, path string) {
	k.f.t.Helper()
	sum := sha512.Sum384([]byte(path))
	template := "ima-cgpath /bin/sh " + cgroup
	if cgroup == "" {
		template = "ima-ng"
	}
	rest := fmt.Sprintf("%s sha384:%x %s\n", template, sum, path)
	e, err := ima.NewReader(strings.NewReader("10 " + strings.Repeat("01", 48) + " " + rest)).Next()
	if err != nil {
		k.f.t.Fatal(err)
	}
	data, err := e.AppendTemplateData(nil)
	if err != nil {
		k.f.t.Fatal(err)
	}
	k.extend(sha512.Sum384(data), sha512.Sum384(data), rest)
}

func (k *fakeIMA) extend(shown, digest hw.Digest, rest string) {
	k.f.t.Helper()
	k.lines = append(k.lines, fmt.Sprintf("10 %x %s", shown[:], rest))
	k.write()
	if err := k.f.machine.ExtendRTMR(k.f.t.Context(), 2, digest); err != nil {
		k.f.t.Fatal(err)
	}
}

// violate adds a violation: a digest of zeroes in the list, of ones in the register.
func (k *fakeIMA) violate(cgroup, path string) {
	var ones hw.Digest
	for i := range ones {
		ones[i] = 0xFF
	}
	k.extend(hw.Digest{}, ones, fmt.Sprintf("ima-cgpath /bin/sh %s sha384:%s %s\n", cgroup, strings.Repeat("0", 96), path))
}

// imaFixture is a daemon on such a kernel, with docker.
func imaFixture(t *testing.T, configure ...func(*config.Config)) (*fixture, *fakeIMA) {
	f := dockerFixture(t, configure...)
	f.stop()
	f.imaDir = t.TempDir()
	k := &fakeIMA{f: f}
	k.measure("", "boot_aggregate")
	k.measure("/", "/usr/lib/systemd/systemd")
	f.start()
	return f, k
}

// Where the kernel extends RTMR2 for IMA, evidence replays to RTMR2: own
// entries are shown, those of others are digests.
func TestOSLogsInDocker(t *testing.T) {
	for _, isolation := range []string{config.IsolationRedacted, config.IsolationPrivate, config.IsolationNone} {
		t.Run(isolation, func(t *testing.T) {
			f, k := imaFixture(t, func(c *config.Config) { c.Isolation = isolation })
			hold := f.hold()
			other := strings.Repeat("ab", 32)
			k.measure("/docker/"+other, "/bin/secret-of-another")
			k.measure("/docker/"+hold, "/bin/one")
			k.measure("/docker/"+hold+"/init", "/bin/two")
			k.measure("/docker/"+hold+"/"+other, "/bin/nested-in-it")
			k.violate("/docker/"+hold, "/var/log/own")
			k.violate("/docker/"+other, "/var/log/other")
			ask := func() []byte {
				return []byte(docker(t, "exec", hold, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce)))
			}
			bundle := ask()
			r := f.wantAuthentic(bundle)
			if s := r.Step(verify.StepBootLog); s.Outcome != verify.Pass || !strings.Contains(s.Detail, "8 IMA entries") {
				t.Errorf("%+v", s)
			}
			shown := shownIMA(t, bundle)
			for name, want := range map[string]bool{
				" boot_aggregate\n": true, "/bin/one": true, "/bin/two": true, "/var/log/own": false, "/var/log/other": false,
				"secret": isolation == config.IsolationNone, "nested": isolation == config.IsolationNone, "systemd": isolation == config.IsolationNone,
			} {
				if strings.Contains(shown, name) != want {
					t.Errorf("%s is shown: %v\n%s", name, !want, shown)
				}
			}
			k.measure("/docker/"+hold, "/bin/three")
			if later := ask(); !strings.Contains(shownIMA(t, later), "/bin/three") {
				t.Error("a later entry is not shown")
			} else {
				f.wantAuthentic(later)
			}
			if n := countEvents(t, bundle, logs.OpIMA); n != 0 {
				t.Errorf("entries are anchored in the runtime log too: %d", n)
			}
			host, err := f.client().GetEvidence(t.Context(), rpc.EvidenceParams{Nonce: nonce})
			if err != nil {
				t.Fatal(err)
			}
			f.wantAuthentic(host)
			if shown := shownIMA(t, host); isolation != config.IsolationNone && shown != k.lines[0] {
				t.Errorf("the host is shown %s", shown)
			}
			e := decode[rpc.Evidence](t, bundle)
			if _, err := form.Encode(&e, form.CEL); err != nil {
				t.Errorf("as CEL: %v", err)
			}
			f.restart() // the list is read again from the start
			f.wantAuthentic(ask())
		})
	}
}

func shownIMA(t *testing.T, bundle []byte) string {
	t.Helper()
	var shown []byte
	for _, l := range decode[rpc.Evidence](t, bundle).OSLogs {
		if l.Format == rpc.FormatIMA {
			shown = append(shown, l.Entries...)
		}
	}
	return string(shown)
}

// A foreign extend of RTMR2 does not stop the daemon: verification detects it.
func TestRTMR2ExtendedByOthers(t *testing.T) {
	f := newFixture(t)
	f.stop()
	f.imaDir = t.TempDir()
	k := &fakeIMA{f: f}
	k.measure("", "boot_aggregate")
	if err := f.machine.ExtendRTMR(t.Context(), 2, hw.Digest{1}); err != nil {
		t.Fatal(err)
	}
	f.start()
	if !strings.Contains(f.log.String(), "something other than IMA extends RTMR2") {
		t.Error("the journal must have the foreign extend")
	}
	bundle, err := f.client().GetEvidence(t.Context(), rpc.EvidenceParams{Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	if r := f.appraise(bundle, nil); r.Step(verify.StepBootLog).Outcome != verify.Fail {
		t.Errorf("%+v", r.Step(verify.StepBootLog))
	}
}

// An IMA log that is too large for evidence is reported as too large.
func TestOSLogTooLarge(t *testing.T) {
	f := newFixture(t, func(c *config.Config) { c.Limits.EvidenceReply = 1 << 20 })
	f.stop()
	f.imaDir = t.TempDir()
	k := &fakeIMA{f: f}
	k.measure("", "boot_aggregate")
	digest, line := sha512.Sum384([]byte("x")), k.lines[0]
	for range 10000 {
		k.lines = append(k.lines, fmt.Sprintf("10 %x %s", digest[:], line[len("10 ")+97:]))
		if err := f.machine.ExtendRTMR(t.Context(), 2, digest); err != nil {
			t.Fatal(err)
		}
	}
	k.write()
	f.start()
	_, err := f.client().GetEvidence(t.Context(), rpc.EvidenceParams{Nonce: nonce})
	if err == nil || !strings.Contains(err.Error(), "IMA log takes") {
		t.Errorf("%v", err)
	}
}

// A reload that isolates containers takes effect at once.
func TestOSLogsAfterAReload(t *testing.T) {
	f, k := imaFixture(t, func(c *config.Config) { c.Isolation = config.IsolationNone })
	hold := f.hold()
	k.measure("/docker/"+strings.Repeat("ab", 32), "/bin/secret-of-another")
	for _, isolation := range []string{config.IsolationNone, config.IsolationRedacted} {
		text := fmt.Sprintf("isolation = %q\n", isolation)
		if err := os.WriteFile(f.configFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.daemon.reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		bundle := []byte(docker(t, "exec", hold, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce)))
		f.wantAuthentic(bundle)
		var log string
		for _, e := range decode[rpc.CCEventLog](t, []byte(docker(t, "exec", hold, "/cimactl", "call", "GetCCEventLog"))).Events {
			log += string(e.Event)
		}
		for what, text := range map[string]string{"evidence": shownIMA(t, bundle), "event log": log} {
			if strings.Contains(text, "secret") != (isolation == config.IsolationNone) {
				t.Errorf("%s with isolation %q: %s", what, isolation, text)
			}
		}
	}
}
