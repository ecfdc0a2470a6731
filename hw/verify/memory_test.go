package verify

import (
	"bytes"
	"crypto/sha512"
	"encoding/json/v2"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

var whole = flag.Bool("whole", false, "appraise evidence of 16 MiB, not of 3")

// heavy are kinds of evidence and of policies of about 1 MiB: each fills its room with as
// many of the smallest things as fit.
var heavy = []struct {
	name   string
	fill   func(w *world, room int) // adds to the log until its bytes in the bundle are that many
	config func() sim.Config
	policy func(made string) string
}{
	{"many events of its own", func(w *world, room int) {
		fill(w, room, func(i int) { w.own(idOne, logs.OpExec, fmt.Sprintf(`{"path":"/%d"}`, i)) })
	}, nil, programs},
	{"many public events", func(w *world, room int) {
		fill(w, room, func(i int) { w.public(logs.OpMissed, fmt.Sprintf(`{"what":"exec","why":"","count":%d}`, i)) })
	}, nil, patterns},
	{"many classes of power", func(w *world, room int) {
		fill(w, room, func(i int) {
			w.public(logs.OpPower, fmt.Sprintf(`{"classes":["unknown:%d"%s]}`, i, strings.Repeat(`,"x"`, 60_000)))
		})
	}, nil, programs},
	{"few large events", func(w *world, room int) {
		fill(w, room, func(i int) {
			w.own(idOne, logs.OpExtend, fmt.Sprintf(`{"domain":"app","operation":"load","content":{"%d":[%s0]}}`, i, strings.Repeat("0,", 120_000)))
		})
	}, nil, patterns},
	{"events of others", func(w *world, room int) {
		fill(w, room, func(int) { w.own("2", logs.OpExit, "") })
	}, nil, containers},
	{"a long boot log", func(w *world, room int) {
		fill(w, room-1400<<10, func(i int) { w.own(idOne, logs.OpExec, fmt.Sprintf(`{"path":"/%d"}`, i)) })
	}, func() sim.Config {
		var events []boot.Event
		for i := range (1<<20 - 200) / 68 {
			data := []byte{byte(i), byte(i >> 8)}
			events = append(events, boot.Event{MR: uint32(1 + i%3), Type: boot.EvIPL, Digest: sha512.Sum384(data), Data: data})
		}
		return sim.Config{BootLog: boot.Encode(events)}
	}, containers},
}

// fill adds until the events' base64 has that many bytes.
func fill(w *world, room int, add func(i int)) {
	for i, n := 0, 0; n < room; i++ {
		add(i)
		e := w.log[len(w.log)-1]
		if n += len(e.Bytes())*4/3 + len(`{"event":""},`); e.Container != "" && e.Container != idOne {
			n -= len(e.Bytes())*4/3 - 64 + len(`{"event":""},`)
		}
	}
}

func until(size int, line func(i int) string) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		b.WriteString(line(i))
	}
	return b.String()
}

// programs is a policy that lists as many programs as it can.
func programs(made string) string {
	list := until(900<<10, func(i int) string { return fmt.Sprintf("%q,\n", rpc.Digest(sha512.Sum384(fmt.Append(nil, i)))) })
	return strings.Replace(made, "name = \"first seen 1\"", "name = \"x\"\nexecs = ["+list+"]", 1)
}

// patterns is one with as many patterns as there may be, each with much to match.
func patterns(made string) string {
	any := until(7<<10, func(i int) string { return fmt.Sprintf("\"%d\",", i) })
	n := 0
	return made + until(900<<10, func(int) string {
		if n++; n > 60 {
			return "# " + strings.Repeat("x", 1000) + "\n"
		}
		return "[[forbidden]]\noperation = \"extend\"\nmatch.domain = { any = [" + any + "] }\n[[forbidden]]\noperation = \"missed\"\nmatch.why = { any = [" + any + "] }\n"
	})
}

// containers is one of many alternatives.
func containers(made string) string {
	return made + until(900<<10, func(i int) string {
		return fmt.Sprintf("[[container]]\nname = \"%d\"\nany = true\nmatch.asked.arguments = [\"%d\"]\n", i, i)
	})
}

// appraiseIn names the directory of what a child of this test appraises.
const appraiseIn = "CIMA_TEST_APPRAISE_IN"

// 16 MiB of any evidence against any policy of 1 MiB take at most 512 MiB, the result in
// JSON included; without -whole, 3 MiB take at most 160 MiB. A process of its own appraises
// each, and its greatest size counts.
func TestMemory(t *testing.T) {
	if dir := os.Getenv(appraiseIn); dir != "" {
		appraiseHeavy(t, dir)
		return
	}
	size, most := 3<<20, int64(160<<20)
	if *whole {
		size, most = rpc.MaxEvidence, 512<<20
	}
	for _, h := range heavy {
		t.Run(h.name, func(t *testing.T) {
			dir := t.TempDir()
			config := sim.Config{}
			if h.config != nil {
				config = h.config()
			}
			w := newWorld(t, config)
			w.launch(idOne, "one", "/bin/one")
			made := textOf(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()))
			if h.fill != nil {
				h.fill(w, size-512<<10)
			}
			bundle, text := encode(t, w.evidence(idOne)), h.policy(made)
			if len(bundle) < size-1<<20 || len(bundle) > size || len(text) < 900<<10 || len(text) > 1<<20 {
				t.Fatalf("evidence of %d bytes, policy of %d", len(bundle), len(text))
			}
			for name, b := range map[string][]byte{"evidence": bundle, "policy": []byte(text), "root": w.td.RootPEM()} {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := exec.Command(os.Args[0], "-test.run", "^TestMemory$")
			c.Env = append(os.Environ(), appraiseIn+"="+dir)
			out, err := c.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			peak := c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
			t.Logf("evidence of %d bytes, policy of %d: %d MiB; %s", len(bundle), len(text), peak>>20, bytes.TrimSpace(out))
			if peak > most && !raced {
				t.Errorf("%d MiB", peak>>20)
			}
		})
	}
}

// appraiseHeavy appraises as cimactl does, and prints the verdict.
func appraiseHeavy(t *testing.T, dir string) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	roots, err := dcap.ParseRoots(read("root"))
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{Nonce: testNonce, TrustRoots: roots}
	if opts.Policy, err = policy.Parse("policy", read("policy")); err != nil {
		t.Fatal(err)
	}
	r, err := Appraise(t.Context(), read("evidence"), opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.MarshalWrite(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteTable(io.Discard); err != nil {
		t.Fatal(err)
	}
	fmt.Println(r.Verdict)
}
