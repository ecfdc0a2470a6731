package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// Where the kernel extends RTMR2 for IMA, the event log replays to RTMR2, page
// by page and while it grows; of others' entries it shows digests.
func TestEventLogWithIMAInDocker(t *testing.T) {
	for _, isolation := range []string{config.IsolationRedacted, config.IsolationPrivate, config.IsolationNone} {
		t.Run(isolation, func(t *testing.T) {
			f, k := imaFixture(t, func(c *config.Config) {
				c.Isolation = isolation
				c.Access = []config.AccessRule{{Allow: []string{rpc.MethodExtendMeasurement}}}
			})
			hold, other := f.hold(), strings.Repeat("ab", 32)
			call := func(method, params string) []byte {
				return []byte(docker(t, "exec", hold, "/cimactl", "call", method, params))
			}
			extend := func(what string) {
				call(rpc.MethodExtendMeasurement, fmt.Sprintf(`{"domain":"a","operation":"b","content":%q}`, what))
			}
			c := f.adminClient().Container(hold)
			read := func(count int, between func()) (all []rpc.EventRecord) {
				t.Helper()
				for start := 0; ; between() {
					var page rpc.CCEventLog
					if err := c.Call(t.Context(), rpc.MethodGetCCEventLog, rpc.CCEventLogParams{Start: start, Count: count}, &page); err != nil {
						t.Fatal(err)
					}
					all = append(all, page.Events...)
					if start = page.Next; start == 0 {
						return all
					}
				}
			}
			nothing := func() {}
			replays := func(log []rpc.EventRecord) {
				t.Helper()
				imr := replayView(t, log)
				for i := range 4 {
					m := decode[rpc.CCMeasurement](t, call(rpc.MethodGetCCMeasurement, fmt.Sprintf(`{"index":%d}`, i)))
					if m.Hash != imr[i] {
						t.Errorf("index %d: replay %v, register %v", i, imr[i], m.Hash)
					}
				}
			}
			first := read(1024, nothing)
			replays(first)
			k.measure("/docker/"+hold, "/bin/own")
			extend("one")
			k.violate("/docker/"+hold, "/var/log/own")
			k.measure("/docker/"+other, "/bin/secret-of-another")
			grown := 0
			paged := read(7, func() { // the pages must not shift meanwhile
				k.measure("/docker/"+other, fmt.Sprint("/bin/between", grown))
				if grown++; grown == 3 {
					extend("two")
				}
			})
			replays(paged)
			if whole := read(1024, nothing); !reflect.DeepEqual(whole, paged) || !reflect.DeepEqual(whole[:len(first)], first) {
				t.Error("read in pages it is another log")
			}
			var shown []string
			hidden := 0
			for _, e := range paged {
				if e.EventType != boot.EvIMAMeasurement {
					continue
				}
				if e.EventSize == 0 && e.ExtraInfo == nil {
					hidden++
				} else {
					shown = append(shown, e.ExtraInfo["template_name"]+" "+string(e.Event))
				}
			}
			text := strings.Join(shown, "\n")
			for name, want := range map[string]bool{
				"ima-cgpath /bin/sh /docker/" + hold + " sha384:": true, "/bin/own": true, "/var/log/own": false,
				"secret": isolation == config.IsolationNone, "between": isolation == config.IsolationNone, "systemd": isolation == config.IsolationNone,
			} {
				if strings.Contains(text, name) != want {
					t.Errorf("%s is shown: %t\n%s", name, !want, text)
				}
			}
			if hidden == 0 {
				t.Error("a violation is shown whole")
			}
			f.clientsReplay()
			f.restart()
			f.clientsReplay()
		})
	}
}

// clientsReplay has the clients replay the host's event log.
func (f *fixture) clientsReplay() {
	f.t.Helper()
	compared, err := f.client().CompareEventLog(f.t.Context())
	if err != nil || len(compared) != 3 {
		f.t.Fatalf("%d registers: %v", len(compared), err)
	}
	for _, c := range compared {
		if !c.Equal() {
			f.t.Errorf("index %d: replay %v, register %v", c.Index, c.Replayed, c.Register)
		}
	}
	python := exec.Command("python3", "-c", `
from cima_client import Client
with Client() as cima:
    compared = cima.compare_event_log()
    assert len(compared) == 3 and all(c.equal for c in compared.values()), compared`)
	python.Env = append(os.Environ(), "PYTHONPATH=../rpc/python", "CIMA_SOCKET="+f.socket())
	if _, err := exec.LookPath("python3"); err != nil {
		f.t.Log("not with Python's client: there is none")
	} else if out, err := python.CombinedOutput(); err != nil {
		f.t.Errorf("Python's client: %v: %s", err, out)
	}
}
