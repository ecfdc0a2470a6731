package ledger

import (
	"bufio"
	"context"
	"encoding/json/v2"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/vtpm"
	"github.com/cima-project/cima/hw/vtpm/vtpmtest"
	"github.com/cima-project/cima/logs"
)

var kills = flag.Int("kills", 20, "`N` kills of TestKilledOnATPM")

// killedCommand makes this program the one that TestKilledOnATPM kills.
const killedCommand = "log-until-killed"

func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == killedCommand {
		logUntilKilled(os.Args[2], os.Args[3], os.Args[4])
	}
	goleak.VerifyTestMain(m)
}

// onTPM is a register in a TPM's PCR 13, as a platform's is.
type onTPM struct{ tpm *vtpm.TPM }

func (r onTPM) Registers(ctx context.Context) (hw.Registers, error) {
	v, err := r.tpm.PCR(ctx, 13)
	return hw.Registers{PCR: v}, err
}

func (r onTPM) Extend(ctx context.Context, d hw.Digest) error { return r.tpm.Extend(ctx, 13, d) }

func openOnTPM(ctx context.Context, dir string, tpm *vtpm.TPM) (*Ledger, error) {
	l, err := Open(ctx, Options{Dir: dir, Register: onTPM{tpm}, BootID: "boot", Anchor: logs.AnchorPCR, PCR: 13})
	if err != nil {
		return nil, err
	}
	if err := l.Begin(ctx, func(ctx context.Context) (Event, error) { return startOn(ctx, l) }); err != nil {
		return nil, err
	}
	if _, err := l.Append(ctx, launch("a", "1")); err != nil {
		return nil, err
	}
	return l, l.Check(ctx)
}

// logUntilKilled logs events without pause, and prints a line for each that is acknowledged.
func logUntilKilled(dir, socket, round string) {
	tpm := vtpm.New(func() (io.ReadWriteCloser, error) { return net.Dial("unix", socket) })
	l, err := openOnTPM(context.Background(), dir, tpm)
	for n := 0; err == nil; n++ {
		name := fmt.Sprintf("%s-%d", round, n)
		if _, err = l.Append(context.Background(), extend("a", name)); err == nil {
			fmt.Println(name)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A process that logs to a PCR of a real TPM is killed at random moments. Each time log and
// PCR agree again, in both banks; what was acknowledged is in the log once, and at most one
// event besides.
func TestKilledOnATPM(t *testing.T) {
	machine := vtpmtest.Start(t)
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, uint64(*kills)))
	acknowledged := make(map[string]bool)
	for round := range *kills {
		c := exec.Command(os.Args[0], killedCommand, dir, machine.Socket, fmt.Sprint(round))
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		said, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		if err != nil {
			t.Fatal(err)
		}
		c.Stderr = said
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := rnd.IntN(12); n > 0 && lines.Scan(); n-- { // 0: at its start
			acknowledged[lines.Text()] = true
		}
		time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond)
		c.Process.Kill()
		for lines.Scan() {
			acknowledged[lines.Text()] = true
		}
		c.Wait()
		if text, _ := os.ReadFile(said.Name()); len(text) > 0 {
			t.Fatalf("it ended by itself: %s", text)
		}
		said.Close()
	}
	tpm := machine.TPM()
	l, err := openOnTPM(t.Context(), dir, tpm)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	now, err := tpm.PCR(t.Context(), 13)
	if s, failed := l.Snapshot("a"); err != nil || failed != nil || s.PCR != now {
		t.Errorf("the log replays to %v, the PCR holds %v: %v, %v", s.PCR, now, err, failed)
	}
	seen := make(map[string]int)
	events := 0
	replayed := l.first
	err = l.file.scan(func(r diskRecord) error {
		e, err := r.event()
		if err != nil {
			return err
		}
		events++
		replayed = replayed.Extend(e.Digest())
		if e.Operation == logs.OpExtend {
			var body logs.ExtendBody
			if err := json.Unmarshal(e.Body(), &body); err != nil {
				return err
			}
			seen[body.Content]++
		}
		return nil
	})
	if err != nil || replayed != now {
		t.Errorf("the file replays to %v, the PCR holds %v: %v", replayed, now, err)
	}
	for name := range acknowledged {
		if seen[name] != 1 {
			t.Errorf("extend %s was acknowledged and is in the log %d times", name, seen[name])
		}
	}
	if unsaid := len(seen) - len(acknowledged); unsaid < 0 || unsaid > *kills {
		t.Errorf("%d events that were not acknowledged, after %d kills", unsaid, *kills)
	}
	t.Logf("%d kills, %d events, %d extends acknowledged, %d more", *kills, events, len(acknowledged), len(seen)-len(acknowledged))
	if len(acknowledged) < *kills {
		t.Errorf("only %d extends were acknowledged: nothing was in flight", len(acknowledged))
	}
}

// What root can do to the PCR of a real TPM while the daemon runs is refused by the TPM, or
// noticed before the next event.
func TestRootOnATPM(t *testing.T) {
	const extendPCR, resetPCR = 0x182, 0x13d
	one := func(alg byte, size int) []byte { return append([]byte{0, 0, 0, 1, 0, alg}, make([]byte, size)...) }
	for name, act := range map[string]func(*vtpmtest.Machine) (refused bool){
		"extends SHA-256 alone": func(m *vtpmtest.Machine) bool {
			rc, _ := m.Command(extendPCR, []uint32{13}, one(0x0b, 32))
			return rc != 0
		},
		"extends SHA-384 alone": func(m *vtpmtest.Machine) bool {
			rc, _ := m.Command(extendPCR, []uint32{13}, one(0x0c, 48))
			return rc != 0
		},
		"extends both": func(m *vtpmtest.Machine) bool {
			rc, _ := m.Command(extendPCR, []uint32{13}, append(append([]byte{0, 0, 0, 2, 0, 0x0b}, make([]byte, 32)...), one(0x0c, 48)[4:]...))
			return rc != 0
		},
		"resets it": func(m *vtpmtest.Machine) bool {
			rc, _ := m.Command(resetPCR, []uint32{13}, nil)
			return rc != 0
		},
		"resets the TPM": func(m *vtpmtest.Machine) bool { m.Reboot(); return false },
	} {
		t.Run(name, func(t *testing.T) {
			machine := vtpmtest.Start(t)
			tpm := machine.TPM()
			l, err := openOnTPM(t.Context(), t.TempDir(), tpm)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			tpm.Close() // swtpm takes one connection
			refused := act(machine)
			_, err = l.Append(t.Context(), extend("a", "one"))
			_, noticed := errors.AsType[*InconsistentError](err)
			switch {
			case refused != (name == "resets it"):
				t.Errorf("the TPM refused: %v", refused)
			case refused && err != nil, !refused && !noticed:
				t.Errorf("the next event: %v", err)
			}
		})
	}
}
