package vectors

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/packaging/test/engine"
	"github.com/cima-project/cima/rpc"
)

// inside names the role of the test's program in a container.
const inside = "CIMA_VECTORS"

func TestMain(m *testing.M) {
	run := map[string]func() error{"relay": relay, "end-to-end": endToEnd, "every-call": everyCall}[os.Getenv(inside)]
	if run == nil {
		if err := engine.Alone(); err != nil {
			fmt.Fprintln(os.Stderr, "tests of containers are left out:", err)
		}
		goleak.VerifyTestMain(m)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// relay sends each line of its input to the daemon and prints the replies.
func relay() error {
	path := os.Getenv(rpc.SocketEnv)
	if path == "" {
		path = rpc.DefaultSocket
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil
		}
		reply, err := exchange(path, line)
		if err != nil {
			return err
		}
		fmt.Print(reply)
	}
}

// exchange sends a line on a new connection and reads one.
func exchange(path, line string) (string, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := c.Write([]byte(line)); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

// endToEnd is what every container can check of itself: the event log replays
// to every register; registers 0, 1 and 3 are not empty (3 in a container);
// there is a report; and the evidence agrees with itself.
func endToEnd() error {
	ctx := context.Background()
	c, err := rpc.Dialer{Wait: true}.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	who, err := c.WhoAmI(ctx)
	if err != nil {
		return err
	}
	count, err := c.GetMeasurementCount(ctx)
	if err != nil {
		return err
	}
	if err := extendOnce(ctx, c, who.Container != nil); err != nil {
		return err
	}
	replayed, err := replayEventLog(ctx, c)
	if err != nil {
		return err
	}
	for i := range count.Count {
		m, err := c.GetCCMeasurement(ctx, rpc.CCMeasurementParams{Index: i})
		if err != nil {
			return err
		}
		if m.Hash != replayed[i] {
			return fmt.Errorf("register %d has %v, the log replays to %v", i, m.Hash, replayed[i])
		}
		if i != 2 && m.Hash == (rpc.Digest{}) {
			return fmt.Errorf("register %d is empty", i)
		}
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	report, err := c.GetCCReport(ctx, rpc.CCReportParams{Nonce: nonce})
	if err != nil {
		return err
	}
	quote, err := dcap.ParseQuote(report.CCReport)
	if err != nil {
		return err
	}
	if data, err := rpc.ReportData(report.Claims); err != nil || data != quote.ReportData {
		return fmt.Errorf("the report must be bound to its claims: %v", err)
	}
	bundle, err := c.GetEvidence(ctx, rpc.EvidenceParams{Nonce: nonce})
	if err != nil {
		return err
	}
	roots, err := dcap.ParseRoots([]byte(os.Getenv("CIMA_VECTORS_ROOT")))
	if err != nil {
		return err
	}
	result, err := verify.Appraise(ctx, bundle, verify.Options{Nonce: nonce, TrustRoots: roots})
	if err != nil {
		return err
	}
	if result.Verdict != verify.NotTrusted { // authentic, and no reference value vouches for what was booted
		return fmt.Errorf("the evidence about this container: %s: %s", result.Verdict, result.Reason)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"container": who.Container, "replayed": replayed})
}

// extendOnce makes an event of the container's own and checks that it is the
// last. Callers on the host have no register to extend.
func extendOnce(ctx context.Context, c *rpc.Client, inContainer bool) error {
	got, err := c.ExtendMeasurement(ctx, rpc.ExtendParams{Domain: "example", Operation: "end-to-end", Content: "go"})
	if !inContainer {
		var e *rpc.Error
		if errors.As(err, &e) {
			return nil
		}
		return fmt.Errorf("a caller on the host must not be able to extend: %v", err)
	}
	if err != nil {
		return err
	}
	page, err := c.GetCCEventLog(ctx, rpc.CCEventLogParams{})
	if err != nil {
		return err
	}
	last := page.Events[len(page.Events)-1]
	if got.Index != 3 || last.IMRIndex != 3 || !bytes.Equal(last.Digests[0].Hash, got.Digest[:]) {
		return fmt.Errorf("extended by %v, but the log ends with %+v", got, last)
	}
	return nil
}

// replayEventLog reads the event log page by page and replays it.
func replayEventLog(ctx context.Context, c *rpc.Client) (registers [4]rpc.Digest, err error) {
	const evNoAction = 3
	for p := (rpc.CCEventLogParams{Count: 7}); ; {
		page, err := c.GetCCEventLog(ctx, p)
		if err != nil {
			return registers, err
		}
		for _, e := range page.Events {
			digest := [48]byte(e.Digests[0].Hash)
			if e.IMRIndex == 3 && digest != sha512.Sum384(e.Event) {
				return registers, fmt.Errorf("record %d: the digest must be its event's", e.RecNum)
			}
			if e.IMRIndex == 3 || e.EventType != evNoAction {
				registers[e.IMRIndex] = registers[e.IMRIndex].Extend(digest)
			}
		}
		if page.Next == 0 {
			return registers, nil
		}
		p.Start = page.Next
	}
}
