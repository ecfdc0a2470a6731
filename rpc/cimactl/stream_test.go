package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/collateral"
	"github.com/cima-project/cima/hw/verify/dcap"
)

// judged is a line of --lines, and how what becomes of it begins.
type judged struct{ line, want string }

// different makes evidence of 16 containers, each with its own nonce; of a hundred, five
// have a broken quote and five another nonce.
func (a *appraisal) different(t *testing.T, n int) (all []judged) {
	t.Helper()
	ids := []string{a.id}
	for _, digit := range "023456789abcdef" {
		ids = append(ids, a.td.Launch(string(digit), "one", "/bin/one"))
	}
	for i := range n {
		nonce := fmt.Appendf(nil, "nonce %010d", i)
		bundle := a.td.Evidence(ids[i%len(ids)], nonce, fmt.Appendf(nil, "key %d", i))
		want := "trusted"
		switch i % 20 {
		case 7:
			bundle, want = flippedQuote(t, bundle), "not authentic"
		case 13:
			nonce, want = append(nonce, '!'), "not authentic"
		}
		all = append(all, judged{fmt.Sprintf(`{"name":"%d","nonce":"%s","evidence":%s}`, i, hex.EncodeToString(nonce), bundle), fmt.Sprintf("%d: %s: ", i, want)})
	}
	return all
}

// flippedQuote flips a bit of the quote's MRTD.
func flippedQuote(t *testing.T, bundle []byte) []byte {
	t.Helper()
	var e struct {
		Quote []byte `json:"quote"`
	}
	if err := json.Unmarshal(bundle, &e); err != nil {
		t.Fatal(err)
	}
	whole := base64.StdEncoding.EncodeToString(e.Quote)
	e.Quote[48+136] ^= 1
	broken := bytes.Replace(bundle, []byte(whole), []byte(base64.StdEncoding.EncodeToString(e.Quote)), 1)
	if bytes.Equal(broken, bundle) {
		t.Fatal("the quote is not in the bundle as base64")
	}
	return broken
}

// files writes the service's documents into a folder.
func (a *appraisal) files(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(a.service)
	defer server.Close()
	source, dir := dcap.PCS{API: server.URL}, t.TempDir()
	for _, n := range collateral.Needs(a.service.Kind, "platform") {
		body, chain, err := source.Get(context.Background(), dcap.Document(n.Kind), n.Of)
		if err == nil {
			err = collateral.Export(dir, n, body, chain)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestStream: one cimactl appraises a long stream of different evidence. Each result is the
// right one and in its place, and memory does not grow with the stream.
func TestStream(t *testing.T) {
	bundles, rounds := 100, 4
	if *whole {
		bundles, rounds = 1000, 100
	}
	a := newAppraisal(t)
	all, files := a.different(t, bundles), a.files(t)
	c := exec.Command("cimactl", "verify", "--lines", "-", "--jobs", "2", "--policy", a.path("policy.toml"), "--trust-root", a.path("root.pem"), "--collateral", files)
	var failed bytes.Buffer
	c.Stderr = &failed
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer in.Close()
		for range rounds {
			for _, j := range all {
				if _, err := io.WriteString(in, j.line+"\n"); err != nil {
					return // the results say what is missing
				}
			}
		}
	}()
	lines, wrong, results := bufio.NewScanner(out), 0, 0
	var resident []int
	for ; lines.Scan(); results++ {
		if want := all[results%bundles].want; !strings.HasPrefix(lines.Text(), want) {
			if wrong++; wrong < 5 {
				t.Errorf("result %d: %s, want %s", results, lines.Text(), want)
			}
		}
		if (results+1)%(bundles*rounds/20) == 0 {
			resident = append(resident, residentKiB(t, c.Process.Pid))
		}
	}
	err = c.Wait()
	if code := c.ProcessState.ExitCode(); code != 2 || failed.Len() > 0 || results != bundles*rounds || wrong > 0 {
		t.Fatalf("%v, exit %d: %d results of %d, %d wrong\n%s", err, code, results, bundles*rounds, wrong, &failed)
	}
	took, cpu := time.Since(start).Seconds(), (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()
	t.Logf("%d appraisals of %d bundles (%d bytes each): %.0f a second, %.0f a second of processor; resident, in MiB, along the stream: %v",
		results, bundles, len(all[0].line), float64(results)/took, float64(results)/cpu, mebibytes(resident))
	// The collector lets the heap breathe. A verifier that kept what it saw would hold all of it.
	const breath = 32 << 10
	if early, late := slices.Max(resident[:10]), slices.Max(resident[10:]); late > early+breath {
		t.Errorf("memory grows along the stream: %d KiB in its first half, %d in the second", early, late)
	}
}

// residentKiB is what a process holds in memory; what a process that has just ended held
// is not known, and 0.
func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "VmRSS:")
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func mebibytes(kib []int) (list []int) {
	for _, n := range kib {
		list = append(list, n>>10)
	}
	return list
}
